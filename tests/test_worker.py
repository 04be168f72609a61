"""The model in a child process: the same answers, and nothing that ends the host."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import smallmodels
from endless import ENDLESS
from insides import pid_of

import edge_llama
from edge_llama import (
    ContextOverflowError,
    Grammar,
    InvalidOptionError,
    LoadCancelledError,
    Message,
    Model,
    ModelFileError,
    OutOfMemoryError,
    Sampling,
    StateError,
    TemplateError,
    WorkerDied,
)
from edge_llama.ask import Ask, Conversation
from edge_llama.worker import spawn
from edge_llama.worker.codec import decode, encode
from edge_llama.worker.frames import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.model

GREEDY = Sampling(temperature=0, max_tokens=12, logprobs=1)
STORY = "Write a long story."
LONG = "word " * 1500
ROOT = Path(edge_llama.__file__).parent.parent


@pytest.fixture(scope="module")
def isolated(embedded: Path) -> Iterator[Model]:
    with Model.open(embedded, n_ctx=2048, isolate=True) as model:
        yield model


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(smallmodels.small_llama().to_bytes())
    return path


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children() -> set[str]:
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return set(" ".join(lists).split())


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def replacing_child(monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """Let children run some code before they begin, or instead."""
    begin = spawn.command()
    assert begin[2] == "-c"
    code = begin[3].replace(
        "from edge_llama.worker", f"{textwrap.dedent(before)}\nfrom edge_llama.worker"
    )
    monkeypatch.setattr(spawn, "command", lambda: [*begin[:3], code, *begin[4:]])


def test_it_answers_as_in_this_process(model: Model, isolated: Model) -> None:
    def without_times(reply: edge_llama.Reply) -> edge_llama.Reply:
        return dataclasses.replace(
            reply, prefill_seconds=0, decode_seconds=0, cached_tokens=0, seed=0
        )

    mood = Grammar.choice("calm", "tense")
    talk = GREEDY, "Name a colour.", "Why that one?"
    answers = []
    for one in (model, isolated):
        stream = one.stream("Hello!", sampling=GREEDY)
        text = "".join(stream)
        assert text == stream.reply.text
        assert len(stream.logprobs) == len(stream.reply.tokens)
        chat = one.chat(system="Be brief.", sampling=talk[0])
        answers.append(
            [
                without_times(stream.reply),
                one.generate("Mood?", grammar=mood, sampling=GREEDY).parse(),
                one.generate("Say a word.", n=2, sampling=Sampling(seed=7, max_tokens=2))[0].seed,
                [
                    reply.prompt_tokens
                    for reply in one.generate_many(["One", [1, 2, 3]], sampling=GREEDY)
                ],
                without_times(chat.send(talk[1])),
                chat.send(talk[2]).prompt_tokens,
                [message.role for message in chat.messages],
                one.tokenize("naïve 東京"),
                one.detokenize(one.tokenize("naïve 東京")),
                one.config.n_ctx,
                one.plan.kv_type,
                one.n_ctx,
            ]
        )
    assert answers[0] == answers[1]
    assert len(answers[0][0].logprobs) == 12
    assert isolated.memory().process.resident > isolated.memory().host.kv_cache > 0


def test_errors_are_those_of_this_process(isolated: Model, small: Path) -> None:
    with pytest.raises(ContextOverflowError, match=r"3[0-9]{3} tokens") as caught:
        isolated.generate("word " * 3000)
    assert caught.value.needed > caught.value.available == 2048
    assert "--ctx" in caught.value.hint
    with pytest.raises(InvalidOptionError, match="not in the vocabulary"):
        isolated.detokenize([10**9])
    with pytest.raises(ModelFileError, match="no such file"):
        Model.open(small.with_name("missing"), isolate=True)
    with pytest.raises(OutOfMemoryError) as out_of_memory:
        Model.open(small, isolate=True, memory="1MiB")
    assert "memory=" in out_of_memory.value.hint
    small.write_bytes(small.read_bytes().replace(b".chat_template", b".chat_xemplate"))
    with Model.open(small, isolate=True) as model, pytest.raises(TemplateError, match="no chat"):
        model.chat()


@pytest.mark.parametrize(
    "grammar",
    [
        None,
        Grammar.json_schema({"type": "object", "properties": {"a": {"type": "integer"}}}),
        Grammar.json(),
        Grammar.regex("a+"),
        Grammar.choice("a", "b"),
        Grammar.gbnf('root ::= "a"'),
        Grammar.lark('start: "a"'),
        Grammar.template("x {a}", a=Grammar.regex("[0-9]+")).after("</think>"),
    ],
)
def test_what_is_asked_arrives_as_it_was(grammar: Grammar | None) -> None:
    bias: dict[int | str, float] = {3: float("-inf"), "x": 1}
    sampling = Sampling(logit_bias=bias, stop=("é🙂",), seed=2**32 - 2, temperature=0.1)
    prompts = "half a pair \ud800 and \0", (1, 2), Conversation((Message("user", "Hi"),), 3)
    for prompt in prompts:
        ask = Ask(prompt=prompt, sampling=sampling, grammar=grammar, n=2)
        assert decode(Ask, json.loads(json.dumps(encode(ask)))) == ask


def test_what_arrives_is_checked_field_by_field(isolated: Model) -> None:
    wrongs: list[object] = [{"a": 1}, [[]]]
    reply = dataclasses.replace(isolated.generate("Hi", sampling=GREEDY), grammar=None)
    for value in (reply, isolated.plan, isolated.memory(), isolated.config):
        data = json.loads(json.dumps(encode(value)))
        assert decode(type(value), data) == value
        for name, wrong in itertools.product(data, wrongs):
            with pytest.raises(ProtocolError):
                decode(type(value), {**data, name: wrong})
        for worse in ({**data, "more": 1}, dict(list(data.items())[1:]), None, [data]):
            with pytest.raises(ProtocolError):
                decode(type(value), worse)


def test_progress_and_cancelling_while_it_loads(small: Path) -> None:
    before = children()
    seen: list[float] = []
    with Model.open(small, isolate=True, on_progress=seen.append):
        assert seen == sorted(seen)
        assert (seen[0], seen[-1]) == (0.0, 1.0)
    with pytest.raises(LoadCancelledError, match="cancelled"):
        Model.open(small, isolate=True, on_progress=lambda done: done < 0.5)

    def fail(_: float) -> None:
        raise ValueError("the window was closed")

    with pytest.raises(LoadCancelledError, match="the window was closed") as caught:
        Model.open(small, isolate=True, on_progress=fail)
    assert isinstance(caught.value.__cause__, ValueError)
    assert children() == before


def test_cancelling_is_quick_also_in_the_middle_of_the_prompt(isolated: Model) -> None:
    delays = []
    for _ in range(3):  # the machine may be busy
        stream = isolated.stream(LONG, sampling=GREEDY)
        time.sleep(0.3)
        asked = time.perf_counter()
        stream.cancel()
        assert stream.reply.finish_reason == "cancelled"
        delays.append(time.perf_counter() - asked)
        assert stream.reply.text == ""
    assert min(delays) < 0.1
    with isolated.stream(STORY, sampling=ENDLESS) as stream:
        first = next(stream)
    assert stream.reply.finish_reason == "cancelled"
    assert stream.reply.text.startswith(first)


def test_a_killed_child_is_an_error_for_all_that_run_and_the_next_call_goes_on(
    isolated: Model,
) -> None:
    chat = isolated.chat(sampling=GREEDY)
    first = chat.send("Name a colour.")
    streams = [isolated.stream(LONG + str(i), sampling=ENDLESS) for i in range(6)]
    answer = chat.stream("Why?")
    old = pid_of(isolated)
    os.kill(old, signal.SIGKILL)
    for stream in [*streams, answer]:
        with pytest.raises(WorkerDied, match="SIGKILL") as caught:
            "".join(stream)
        assert caught.value.exit_code == -signal.SIGKILL
    assert any("llama" in line for line in caught.value.log)  # its last words
    replies = []
    asking = [
        threading.Thread(target=lambda: replies.append(isolated.generate("Hi", sampling=GREEDY)))
        for _ in range(4)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len({reply.text for reply in replies}) == 1
    assert pid_of(isolated) != old
    assert len(replies) == 4
    assert chat.messages[-1].content == first.text
    assert chat.send("Why?").text


def test_a_native_abort_is_an_error_with_what_llama_cpp_said(
    embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is made to decode more tokens than a batch holds, which llama.cpp asserts."""
    with monkeypatch.context() as patch:
        replacing_child(
            patch,
            """
            import ctypes
            from edge_llama.native import NativeContext
            from edge_llama.native.library import llama
            def decode(self, parts, **_):
                tokens = (ctypes.c_int32 * 9999)(*[1] * 9999)
                llama().llama_decode(self.handle, llama().llama_batch_get_one(tokens, 9999))
            NativeContext.decode = decode
            """,
        )
        model = Model.open(embedded, n_ctx=512, isolate=True)
        with pytest.raises(WorkerDied, match=r"SIGABRT: .*GGML_ASSERT\(.*n_batch") as caught:
            model.generate("Hello!", sampling=GREEDY)
    assert caught.value.exit_code == -signal.SIGABRT
    with model:
        assert model.generate("Hello!", sampling=GREEDY).text


@pytest.mark.parametrize(
    "words",
    [
        'b"\\x80\\x04\\x95 a pickle"',
        'struct.pack("<I", 2**32 - 1)',
        'frame(["ok", 1, {"plan": 1}])',
        'frame(["error", 1, {"type": "system", "message": "x", "fields": {}}])',
        'frame(["error", 1, {"type": "StateError", "message": "x", "fields": {"a": 1}}])',
        'frame(["text", 1, None, 4])',
        'struct.pack("<I", 200_000) + b"[" * 200_000',
    ],
)
def test_a_child_that_talks_nonsense_is_ended(
    small: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    replacing_child(
        monkeypatch,
        f"""
        import json, os, struct, time
        def frame(value):
            data = json.dumps(value).encode()
            return struct.pack("<I", len(data)) + data
        os.read(0, 4)
        os.write(1, {words})
        time.sleep(60)
        """,
    )
    started = time.perf_counter()
    with pytest.raises(WorkerDied, match="was ended"):
        Model.open(small, isolate=True)
    assert time.perf_counter() - started < 30


def test_a_child_that_cannot_begin_is_an_error(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        replacing_child(patch, "raise SystemExit('no such luck')")
        with pytest.raises(WorkerDied, match=r"exit code 1: no such luck"):
            Model.open(small, isolate=True)
    monkeypatch.setattr(spawn, "command", lambda: ["/nonexistent/python"])
    with pytest.raises(WorkerDied, match="can be started"):
        Model.open(small, isolate=True)


def test_a_child_outlives_the_thread_that_opened_it(small: Path) -> None:
    models: list[Model] = []
    opener = threading.Thread(target=lambda: models.append(Model.open(small, isolate=True)))
    opener.start()
    opener.join()
    pid = pid_of(models[0])
    time.sleep(0.3)
    assert is_running(pid)
    models[0].close()
    assert not is_running(pid)


def test_it_may_be_closed_by_the_thread_that_reads_from_it(small: Path) -> None:
    """Where a finalizer runs, for one."""
    model = Model.open(small, isolate=True)
    pid, worker = pid_of(model), model._opened
    ask = Ask(prompt=(1, 2, 3), sampling=Sampling(max_tokens=3))
    (stream,) = worker.start([ask], lambda _: worker.close())
    started = time.perf_counter()
    assert stream.reply.completion_tokens <= 3
    assert wait_until(lambda: not is_running(pid), 3)
    assert time.perf_counter() - started < 5
    with pytest.raises(StateError):
        model.tokenize("a")


def test_the_log_of_llama_cpp_comes_over(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "edge_llama"), Model.open(small, isolate=True):
        pass
    names = {record.name for record in caplog.records if "llama_" in record.getMessage()}
    assert "edge_llama.native" in names


SCRIPT = """
    import os, sys, threading, time
    from edge_llama import Grammar, Model, Sampling
    model = Model.open({path!r}, n_ctx=512, isolate=True)
    assert "edge" in model.generate("x", raw=True, sampling=Sampling(max_tokens=8),
                                    grammar=Grammar.choice("edge")).text
    stream = model.stream("word " * 200, raw=True, sampling=Sampling(max_tokens=300))
    next(stream)
    print(model._opened.pid, flush=True)
    {ending}
"""


def script(path: Path, ending: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(SCRIPT.format(path=str(path), ending=ending))]


def test_the_child_never_outlives_the_parent(embedded: Path) -> None:
    with subprocess.Popen(script(embedded, "time.sleep(600)"), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    assert wait_until(lambda: not is_running(child))


CLEAN = """
    assert not {"llama_cpp", "llguidance"} & set(sys.modules)
    with open("/proc/self/maps") as maps:
        assert not [line for line in maps if "libllama" in line or "libggml" in line]
"""


@pytest.mark.parametrize("ending", ["pass", "sys.exit(0)", "model.close()", CLEAN])
def test_leaving_is_silent_and_nothing_native_was_loaded(embedded: Path, ending: str) -> None:
    ending = textwrap.indent(textwrap.dedent(ending), "    ").strip()
    run = subprocess.run(
        script(embedded, ending), capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert wait_until(lambda: not is_running(int(run.stdout)))


def test_a_frozen_app_starts_itself(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What freezes an app makes sys.executable the app itself, which calls freeze_support."""
    app = tmp_path / "app"
    app.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:] = {sys.path!r}\n"
        "from edge_llama.worker import freeze_support\nfreeze_support()\nsys.exit('a window')\n"
    )
    app.chmod(0o755)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(app))
    with Model.open(small, isolate=True) as model:
        assert model.tokenize("a")
    with pytest.raises(StateError):
        model.tokenize("a")
