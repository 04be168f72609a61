"""Conversations on the disk: kept whatever happens, found, shared, and really deleted."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_llama import HistoryError, Message
from edge_llama.conversations import ConversationStore, Thread, database, to_json, to_markdown
from edge_llama.conversations.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "conversations.db"


@pytest.fixture
def store(path: Path) -> Iterator[ConversationStore]:
    with ConversationStore(path) as store:
        yield store


def talk(store: ConversationStore, *turns: tuple[str, str], system: str | None = None) -> Thread:
    thread = Thread(store, model="m.gguf", system=system)
    for question, answer in turns:
        thread.ask(question)
        thread.finish(answer)
    return thread


def number(thread: Thread) -> int:
    assert thread.id is not None
    return thread.id


_DIES = """
import os, pathlib, signal, sys
from edge_llama.conversations import ConversationStore, Thread
store = ConversationStore(pathlib.Path(sys.argv[1]))
thread = Thread(store, model="m.gguf", system="Be brief.")
thread.ask("first?"); thread.finish("first.")
thread.ask("second?"); thread.save("seco")
if len(sys.argv) > 2: thread.finish("second."); thread.ask("third?")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_process_loses_nothing_that_was_said(path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", _DIES, path], check=False)
    assert run.returncode == -9
    with ConversationStore(path) as store:
        thread = Thread.resume(store, store.find("last"))
        assert [(turn.answer, turn.status) for turn in thread.turns] == [
            ("first.", "complete"),
            ("seco", "unfinished"),
        ]
        assert thread.messages[-2:] == [Message("user", "second?"), Message("assistant", "seco")]
    subprocess.run([sys.executable, "-c", _DIES, path, "third"], check=False)
    with ConversationStore(path) as store:
        thread = Thread.resume(store, store.find("last"))
        assert [turn.question for turn in thread.turns] == ["first?", "second?", "third?"]
        # A question without an answer stays, but no model is shown two questions in a row.
        assert [message.content for message in thread.messages] == [
            *("Be brief.", "first?", "first.", "second?", "second.")
        ]


def test_listing_naming_and_finding(store: ConversationStore) -> None:
    first = talk(store, ("What is\n\x1b[31mtitanium? " + "x" * 80, "A metal."))
    second = talk(store, ("Hello", "Hi"))
    titles = [conversation.title for conversation in store.list()]
    assert titles[0] == "Hello"
    assert titles[1].startswith("What is [31mtitanium? x")
    assert len(titles[1]) == 60
    first.ask("And lead?")
    assert [conversation.id for conversation in store.list()] == [first.id, second.id]
    assert store.find("last").id == first.id == store.find(str(first.id)).id
    store.rename(number(first), "Metals")
    assert store.find("metals").id == first.id
    assert store.get(number(first)).turns == 2
    second.ask("x" * 20_000)
    assert store.questions(2) == ["And lead?", "Hello"]
    for name in ("99", "nothing", "9" * 30):
        with pytest.raises(HistoryError, match="there is no conversation"):
            store.find(name)


@pytest.mark.parametrize("full_text", [True, False])
def test_search(path: Path, full_text: bool) -> None:
    with ConversationStore(path, full_text=full_text) as store:
        moons = talk(store, ("Name a moon of Saturn", "Titan is the largest moon. " + "pad " * 50))
        tea = talk(store, ("Green tea 100%?", "Brew it at 80 °C, naïve friend."), ("抹茶は?", "x"))
        thread = talk(store, ("Nothing", "here"))

        def found(words: str) -> list[int | None]:
            return [hit.conversation.id for hit in store.search(words)]

        assert found("titan largest") == [moons.id]
        assert found("tita") == [moons.id]
        assert found("100%") == [tea.id]
        assert found("茶") == [tea.id]  # no word of its own
        assert found('" OR "tea') == found("") == found("titan tea") == []
        assert "largest moon" in store.search("titan")[0].excerpt
        assert len(store.search("titan")[0].excerpt) < 120
        thread.ask("What of zirconium?")
        thread.save("zirco")
        thread.finish("It is named hafnium")
        assert found("hafnium") == found("zirconium") == [thread.id]
        thread.undo()
        assert found("hafnium") == []


def test_an_index_that_another_python_left_behind_is_made_anew(path: Path) -> None:
    with ConversationStore(path, full_text=True) as store:
        talk(store, ("alpha", "beta"))
    with ConversationStore(path, full_text=False) as store:  # has no FTS5
        talk(store, ("gamma", "delta"))
        assert len(store.search("gamma")) == len(store.search("alpha")) == 1
    with ConversationStore(path, full_text=True) as store:
        sql = "SELECT count(*) FROM turn_text WHERE turn_text MATCH 'gamma OR alpha'"
        assert store._connection.execute(sql).fetchone()[0] == 2


def test_what_is_deleted_is_gone_from_the_files(path: Path) -> None:
    with ConversationStore(path) as store:
        gone, stays = talk(store, ("xyzzysecret", "plughsecret")), talk(store, ("hello", "world"))
        gone.ask("frotzsecret")
        gone.save("quuxsecret")
        store.delete([number(gone)])
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert b"secret" not in content
        assert b"world" in content
        assert [conversation.id for conversation in store.list()] == [stays.id]
        assert not store.search("xyzzysecret")


def test_two_processes_hold_one_conversation_and_part(path: Path) -> None:
    with ConversationStore(path) as one, ConversationStore(path) as two:
        first = talk(one, ("q1", "a1"))
        second = Thread.resume(two, two.find("last"))
        first.ask("q2 of one")
        second.ask("q2 of two")
        second.finish("a2 of two")
        first.finish("a2 of one")
        assert first.id != second.id
        for thread, who in ((first, "one"), (second, "two")):
            turns = [(turn.question, turn.answer) for turn in one.turns(number(thread))]
            assert turns == [("q1", "a1"), (f"q2 of {who}", f"a2 of {who}")]


def test_a_conversation_that_was_deleted_stays_deleted(path: Path) -> None:
    with ConversationStore(path) as one, ConversationStore(path) as two:
        thread = talk(one, ("the old secret", "told"))
        two.delete([number(thread)])
        thread.ask("new")
        thread.finish("answer")
        assert [turn.question for turn in two.turns(number(thread))] == ["new"]
        assert not two.search("secret")


_WRITES = """
import pathlib, sys
from edge_llama.conversations import ConversationStore, Thread
with ConversationStore(pathlib.Path(sys.argv[1])) as store:
    thread = Thread(store, model=sys.argv[2])
    for i in range(20):
        thread.ask(f"q{i}"); thread.save("..."); thread.finish(f"a{i}")
"""


def test_processes_write_at_the_same_time(path: Path) -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", _WRITES, path, name]) for name in ("x", "y", "z")
    ]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    with ConversationStore(path) as store:
        assert sorted(one.model for one in store.list()) == ["x", "y", "z"]
        for one in store.list():
            assert [turn.answer for turn in store.turns(one.id)] == [f"a{i}" for i in range(20)]


def test_discarding_and_settings(store: ConversationStore) -> None:
    thread = Thread(store, model="a", system="s")
    thread.discard()
    thread.ask("one")
    thread.finish("1", "stopped")
    thread.ask("two")
    thread.discard()
    thread.describe(model="b", system=None, settings={"sampling": {"top_k": 3}})
    again = Thread.resume(store, store.find("last"))
    assert [turn.status for turn in again.turns] == ["stopped"]
    assert again.messages == [Message("user", "one"), Message("assistant", "1")]
    kept = store.get(number(thread))
    assert (kept.model, kept.system, kept.settings) == ("b", None, {"sampling": {"top_k": 3}})


def test_exports(store: ConversationStore) -> None:
    thread = talk(store, ("What is *this*?", "A test."), system="Be\nbrief.")
    thread.ask("And?")
    thread.save("cut o")
    conversation = store.get(number(thread))
    text = to_markdown(conversation, thread.turns)
    assert text.startswith("# What is *this*?\n\n*m.gguf, 20")
    assert "\n\n> Be\n> brief.\n\n## You\n\nWhat is *this*?\n\n## Model\n\nA test.\n\n" in text
    assert text.endswith("cut o\n\n*(cut off)*\n")
    value = json.loads(json.dumps(to_json(conversation, thread.turns)))
    assert [message["content"] for message in value["messages"]] == [
        *("Be\nbrief.", "What is *this*?", "A test.", "And?", "cut o")
    ]
    assert value["messages"][-1]["status"] == "unfinished"


def test_a_step_of_the_schema_keeps_what_is_there(path: Path) -> None:
    with ConversationStore(path) as store:
        talk(store, ("q", "a"))
    more = (*MIGRATIONS, ("ALTER TABLE conversation ADD COLUMN pinned INTEGER DEFAULT 0",))
    connection = database.connect(path, more)
    assert connection.execute("SELECT title, pinned FROM conversation").fetchone()[:] == ("q", 0)
    connection.close()
    with pytest.raises(HistoryError, match=r"conversations.db: a newer edge-llama wrote it"):
        ConversationStore(path)
    broken = (*more, ("CREATE TABLE half (x)", "nonsense"))
    with pytest.raises(HistoryError, match="nonsense"):
        database.connect(path, broken)
    connection = database.connect(path, more)  # all or nothing: no half step is left
    assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()
    connection.close()


@pytest.mark.parametrize("damage", ["header", "page", "text"])
def test_damage_is_one_error_that_names_the_file(path: Path, damage: str) -> None:
    with ConversationStore(path) as store:
        for i in range(40):
            talk(store, (f"question {i} " * 50, "answer " * 50))
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[:16] = b"not a database!!"
    elif damage == "text":
        content[:] = b"hello"
    else:
        content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)

    def read_all() -> None:
        with ConversationStore(path) as store:
            for conversation in store.list():
                store.turns(conversation.id)

    with pytest.raises(HistoryError) as caught:
        read_all()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value) + caught.value.hint
    assert "Rename it" in caught.value.hint


def test_files_that_are_not_ours_or_cannot_be_had(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    with pytest.raises(HistoryError, match="another program"):
        ConversationStore(other)
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match="file"):
        ConversationStore(tmp_path / "file" / "conversations.db")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_nobody_else_may_read_it(store: ConversationStore, path: Path) -> None:
    talk(store, ("q", "a"))
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_writer_that_waits_too_long_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    with ConversationStore(path) as one, ConversationStore(path) as two:
        thread = talk(one, ("q", "a"))
        two._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="locked") as caught:
            thread.ask("q2")
        assert "Another process" in caught.value.hint
        two._connection.execute("ROLLBACK")
        thread.ask("q2")
