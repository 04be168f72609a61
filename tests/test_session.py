"""The conversation behind the terminal: model and record stay in step, whatever a person does."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from edge_llama import (
    ContextOverflowError,
    EdgeLlamaError,
    HistoryError,
    InvalidOptionError,
    Model,
    Sampling,
)
from edge_llama.cli.options import with_sampling
from edge_llama.cli.repl.answering import answer
from edge_llama.cli.repl.attachments import MAX_BYTES, read_attachment
from edge_llama.cli.repl.clipboard import copy_sequence, last_code
from edge_llama.cli.repl.session import Session, overridden, persona_of
from edge_llama.cli.repl.toolbar import status_line
from edge_llama.conversations import ConversationStore
from edge_llama.personas import Persona

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GREEDY = Sampling(temperature=0, max_tokens=6)


class Pieces:
    """A view that remembers."""

    def __init__(self) -> None:
        self.text, self.ended = "", False

    def begin(self) -> None:
        assert not self.text

    def push(self, text: str) -> None:
        self.text += text

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConversationStore]:
    with ConversationStore(tmp_path / "conversations.db") as store:
        yield store


@pytest.fixture
def faults() -> list[HistoryError]:
    return []


@pytest.fixture
def session(model: Model, store: ConversationStore, faults: list[HistoryError]) -> Session:
    return Session(model, Persona(system="Be brief.", sampling=GREEDY), store, faults.append)


def ask(session: Session, question: str) -> str:
    view = Pieces()
    reply = answer(session, question, view)
    assert view.ended
    assert view.text == reply.text
    return reply.text


def kept(session: Session) -> list[tuple[str, str, str]]:
    assert session.store is not None
    assert session.id is not None
    turns = session.store.turns(session.id)
    return [(turn.question, turn.answer, turn.status) for turn in turns]


#: The answer is so certain that rounding, which depends on what is cached, does not change it.
FRANCE = "What is the capital of France?"


@pytest.mark.model
def test_undo_retry_and_clear(session: Session, store: ConversationStore) -> None:
    session.undo()
    first = ask(session, FRANCE)
    second = ask(session, "And again.")
    assert session.question == "And again."
    session.undo()
    assert kept(session) == [(FRANCE, first, "complete")]
    assert ask(session, "And again.") == second
    kept_id = session.id
    session.clear()
    assert session.question is session.answer is None
    assert ask(session, FRANCE) == first
    assert session.id != kept_id
    assert [one.turns for one in store.list()] == [1, 2]


@pytest.mark.model
def test_a_conversation_goes_on_where_it_was(
    session: Session, model: Model, store: ConversationStore, faults: list[HistoryError]
) -> None:
    ask(session, "Say hello.")
    session.change(dataclasses.replace(session.persona, system="Be long."))
    expected = ask(session, "And again.")
    session.undo()
    conversation = store.find("last")
    again = Session(model, persona_of(conversation), store, faults.append)
    again.resume(conversation)
    assert again.persona.sampling == GREEDY
    assert again.persona.system == "Be long."
    assert again.question == "Say hello."
    assert ask(again, "And again.") == expected
    assert store.get(conversation.id).turns == 2


@pytest.mark.model
def test_a_question_without_an_answer_can_be_asked_again(
    session: Session, model: Model, store: ConversationStore, faults: list[HistoryError]
) -> None:
    first = ask(session, "Say hello.")
    session.ask("And then?").cancel()  # as if the process had died here
    conversation = store.find("last")
    again = Session(model, persona_of(conversation), store, faults.append)
    again.resume(conversation)
    assert again.is_unanswered
    assert again.question == "And then?"
    again.undo()
    assert kept(again) == [("Say hello.", first, "complete")]
    assert again.question == "Say hello."
    again.ask("And then?").cancel()
    third = Session(model, persona_of(conversation), store, faults.append)
    third.resume(conversation)
    ask(third, "Something else.")  # not the question that was left
    third.undo()
    third.undo()
    assert kept(third) == []
    assert third.question is None


@pytest.mark.model
def test_what_fails_is_taken_back_and_what_is_stopped_stays(
    model: Model, store: ConversationStore, faults: list[HistoryError]
) -> None:
    session = Session(model, Persona(sampling=Sampling(seed=1)), store, faults.append)
    with pytest.raises(ContextOverflowError):
        ask(session, "word " * 3000)
    assert session.question is None
    assert kept(session) == []

    class Impatient(Pieces):
        def push(self, text: str) -> None:
            super().push(text)
            if len(self.text) > 20:
                stream.cancel()

    view = Impatient()
    stream = session.ask("Write a long story.")
    for text in stream:
        view.push(text)
        session.push(text)
    session.end(stream.reply)
    (turn,) = kept(session)
    assert turn[1] == stream.reply.text == view.text
    assert turn[2] == "stopped"


@pytest.mark.model
def test_an_answer_is_kept_while_it_is_written(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_llama.cli.repl.session._KEEP_SECONDS", 0.0)
    with session.ask("Say hello.") as stream:
        session.push(next(stream))
        ((question, partial, status),) = kept(session)
    assert (question, status) == ("Say hello.", "unfinished")
    assert partial


@pytest.mark.model
def test_a_store_that_fails_ends_no_conversation(
    session: Session, store: ConversationStore, faults: list[HistoryError]
) -> None:
    first = ask(session, "Say hello.")
    store.close()
    assert ask(session, "And again.")
    assert ask(session, "And again.")
    assert len(faults) == 1
    assert "conversations.db" in str(faults[0])
    assert session.store is None
    assert "not kept" in status_line(session, 100)
    session.undo()
    session.undo()
    assert session.answer == first


@pytest.mark.model
def test_the_status_line_fits(session: Session) -> None:
    ask(session, "Say hello.")
    line = status_line(session, 200)
    for part in ("context ", "tokens/s", "prefill", "memory", "#1"):
        assert part in line
    for width in range(1, 100):
        assert len(status_line(session, width)) <= width
    assert "context" in status_line(session, 20)


@pytest.mark.model
def test_attached_files_go_with_the_next_question(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("A ``` fence and ```` more.\n", encoding="utf-8")
    session.attached.append(read_attachment(str(path)))
    ask(session, "What is it?")
    assert not session.attached
    question = kept(session)[0][0]
    assert question == "notes.md:\n`````\nA ``` fence and ```` more.\n`````\n\nWhat is it?"


def test_attachments_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x80\x81")
    (tmp_path / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    for name, message in (
        ("binary", "not text in UTF-8"),
        ("large", "larger than 1 MiB"),
        ("none", "no such file"),
        (".", "no such file"),
    ):
        with pytest.raises(InvalidOptionError, match=message):
            read_attachment(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("temperature", "0.2", "temperature", 0.2),
        ("temp", "0", "temperature", 0),
        ("--top-k", "5", "top_k", 5),
        ("top_p", "default", "top_p", None),
        ("stop", "'the end' x\\n", "stop", ("the end", "xn")),
        ("stop", '"x\\n"', "stop", ("x\n",)),
        ("samplers", "top_k;temp", "samplers", ("top_k", "temperature")),
        ("logit-bias", "' Moon=-inf' 28=1", "logit_bias", ((" Moon", -float("inf")), (28, 1.0))),
        ("max-tokens", "default", "max_tokens", None),
    ],
)
def test_options_are_set_as_on_the_command_line(
    name: str, text: str, field: str, value: Any
) -> None:
    assert getattr(with_sampling(Sampling(top_p=0.5), name, text), field) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("temperature", "-1", "temperature = -1 is not possible"),
        ("temperature", "hot", "temperature = 'hot' is not possible"),
        ("top_k", "1.5", "top_k = 1.5 is not possible"),
        ("heat", "1", "no option 'heat'"),
        ("stop", "'open", "stop = "),
        ("logit-bias", "x", "logit_bias"),
    ],
)
def test_options_that_are_not_possible(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        with_sampling(Sampling(), name, text)


def test_what_is_given_goes_before_what_was_kept() -> None:
    base = Persona(system="a", sampling=Sampling(temperature=0.5, top_k=3, stop=("a",)), schema="s")
    given = overridden(base, Persona(sampling=Sampling(top_k=9)))
    assert given == dataclasses.replace(
        base, sampling=Sampling(temperature=0.5, top_k=9, stop=("a",))
    )
    assert overridden(base, Persona(system="")).system is None
    assert overridden(base, Persona(system="b", schema="t")).schema == "t"


@pytest.mark.model
def test_answers_follow_a_schema_until_it_is_taken_off(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"enum": ["calm", "tense"]}', encoding="utf-8")
    session.change(dataclasses.replace(session.persona, schema=str(path)))
    assert json.loads(ask(session, "What is the mood?")) in {"calm", "tense"}
    assert session.store is not None
    assert persona_of(session.store.find("last")).schema == str(path)
    assert "schema on" in status_line(session, 100)
    before = session.persona
    (tmp_path / "binary").write_bytes(b"\x80")
    for name in ("nothing", "binary"):
        with pytest.raises(EdgeLlamaError, match=name):
            session.change(dataclasses.replace(before, schema=str(tmp_path / name)))
    assert session.persona == before
    session.change(dataclasses.replace(before, schema=None))
    assert ask(session, "Say hello.")[0] not in '"{'


def test_the_clipboard_has_a_bound() -> None:
    sequence = copy_sequence("naïve\x1b")
    assert sequence.startswith("\x1b]52;c;")
    assert sequence.endswith("\x07")
    assert base64.b64decode(sequence[7:-1]).decode() == "naïve\x1b"
    with pytest.raises(InvalidOptionError, match="more than terminals copy"):
        copy_sequence("x" * 75_000)
    assert last_code("a\n```py\nx = 1\n```\nb\n~~~\ny\n~~~\n") == "y\n"
    assert last_code("none") is None


@pytest.mark.model
def test_outside_the_main_thread_ctrl_c_is_left_alone(
    model: Model, faults: list[HistoryError]
) -> None:
    session = Session(model, Persona(sampling=GREEDY), None, faults.append)
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(ask(session, "Say hello.")))
    thread.start()
    deadline = time.monotonic() + 60
    while thread.is_alive() and time.monotonic() < deadline:
        thread.join(0.1)
    assert texts
