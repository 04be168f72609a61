"""``edge-llama history``, ``persona`` and chats without a terminal, as processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_llama.cli.chat import with_resume_value
from edge_llama.conversations import ConversationStore, Thread

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunCLI

GREEDY = ("--temp", "0", "--max-tokens", "6")


@pytest.fixture
def store(tmp_path: Path) -> ConversationStore:
    """Three conversations where the commands look for them."""
    store = ConversationStore(tmp_path / "home" / "conversations.db")
    for question, answer in (
        ("Name a moon of Saturn.", "**Titan** is its largest moon."),
        ("How is tea brewed?", "At 80 degrees.\x1b]0;evil\x07"),
        ("Hello", "Hi!"),
    ):
        thread = Thread(store, model="m.gguf")
        thread.ask(question)
        thread.finish(answer)
    return store


def test_list_search_show_export_rm(
    store: ConversationStore, run_cli: RunCLI, tmp_path: Path
) -> None:
    store.close()
    rows = run_cli("history").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["id", "3", "2", "1"]
    assert rows[-1].endswith("1  Name a moon of Saturn.")
    assert run_cli("history", "list", "-n", "1").stdout.splitlines()[1:] == rows[1:2]
    found = run_cli("history", "search", "largest", "moon")
    assert "Titan** is its largest moon" in found.stdout
    nothing = run_cli("history", "search", "zirconium")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert json.loads(run_cli("history", "search", "tea", "--json").stdout)[0]["id"] == 2
    assert "## You\n\nHello\n\n## Model\n\nHi!" in run_cli("history", "show").stdout
    assert "\x1b]0;evil\x07" in run_cli("history", "export", "2").stdout  # a pipe gets all of it
    exported = run_cli("history", "export", "1", "-o", "moon.json")
    assert (exported.returncode, exported.stdout) == (0, "")
    assert json.loads((tmp_path / "moon.json").read_text())["title"] == "Name a moon of Saturn."
    again = run_cli("history", "export", "1", "-o", "moon.json")
    assert again.returncode == 1
    assert "already exists" in again.stderr
    assert run_cli("history", "rm", "hello", "1").returncode == 0
    assert [one["id"] for one in json.loads(run_cli("history", "list", "--json").stdout)] == [2]
    assert run_cli("history", "rm", "--all").returncode == 0
    empty = run_cli("history")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert b"brewed" not in (tmp_path / "home" / "conversations.db").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["history", "show", "77"], 1, "there is no conversation 77"),
        (["history", "export", "nothing"], 1, "called 'nothing'"),
        (["history", "rm"], 2, "nothing to delete was named"),
        (["history", "rm", "1", "--all"], 2, "--all and names"),
        (["chat", "--resume", "77"], 1, "there is no conversation 77"),
        (["chat", "--resume", "--no-history"], 2, "exclude each other"),
        (["chat", "--persona", "nobody"], 1, "there is no persona called nobody"),
        (["persona", "show", "../x"], 1, "is no name for a persona"),
        (["persona", "save", "x", "--set", "heat=1"], 2, "no option 'heat'"),
        (["persona", "save", "x", "--system", "@nowhere"], 2, "nowhere"),
    ],
)
def test_errors_are_one_line(
    store: ConversationStore, run_cli: RunCLI, arguments: list[str], code: int, message: str
) -> None:
    store.close()
    run = run_cli(*arguments, stdin="hello")
    assert run.returncode == code
    assert run.stdout == ""
    assert re.fullmatch(rf"error: .*{re.escape(message)}.*\n", run.stderr)


def test_a_persona(run_cli: RunCLI, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("You are a pirate.\nBe brief.\n")
    saved = run_cli(
        *("persona", "save", "pirate", "--system", "@prompt.txt", "--set", "temp=0.5"),
        *("--set", "stop=Arr", "--json-schema", "s.json"),
    )
    path = tmp_path / "home" / "personas" / "pirate.json"
    assert saved.stdout == f"{path}\n"
    assert run_cli("persona").stdout == "pirate\n"
    assert json.loads(run_cli("persona", "show", "pirate").stdout) == {
        "system": ["You are a pirate.", "Be brief."],
        "sampling": {"temperature": 0.5, "stop": ["Arr"]},
        "schema": str(tmp_path / "s.json"),
    }
    assert run_cli("persona", "rm", "pirate").returncode == 0
    assert not path.exists()


@pytest.mark.model
def test_a_piped_chat_is_kept_and_goes_on(run_cli: RunCLI) -> None:
    run_cli("persona", "save", "short", "--system", "Be brief.", "--set", "max-tokens=5")
    first = run_cli("chat", "--persona", "short", "--temp", "0", stdin="Say hello.")
    assert (first.returncode, first.stderr) == (0, "")
    second = run_cli("chat", "--resume", "--top-k", "3", stdin="And again.")
    assert (second.returncode, second.stderr) == (0, "")
    (one,) = json.loads(run_cli("history", "list", "--json").stdout)
    kept = json.loads(run_cli("history", "export", "--json").stdout)
    assert kept["settings"] == {"sampling": {"temperature": 0.0, "top_k": 3, "max_tokens": 5}}
    assert [message["role"] for message in kept["messages"]] == [
        *("system", "user", "assistant", "user", "assistant")
    ]
    assert kept["messages"][2]["content"] == first.stdout.removesuffix("\n")
    assert run_cli("chat", "--no-history", *GREEDY, stdin="x").returncode == 0
    assert len(json.loads(run_cli("history", "list", "--json").stdout)) == 1
    assert one["id"] == 1


@pytest.mark.model
@pytest.mark.skipif(os.name != "posix", reason="uses a POSIX shell pipe")
def test_what_a_reader_did_not_wait_for_is_kept(run_cli: RunCLI, tmp_path: Path) -> None:
    run = subprocess.run(
        f"echo Count to 100. | {sys.executable} -m edge_llama chat --max-tokens 60 | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "EDGE_LLAMA_HOME": str(tmp_path / "home")},
        timeout=120,
        check=False,
    )
    assert (len(run.stdout), run.stderr) == (1, "")
    kept = json.loads(run_cli("history", "export", "--json").stdout)["messages"]
    assert kept[1]["content"].startswith(run.stdout)
    assert kept[1]["status"] == "unfinished"


@pytest.mark.model
def test_the_policy_that_made_room_is_named(run_cli: RunCLI) -> None:
    small = ("chat", "--resume", "-c", "128", *GREEDY)
    assert run_cli("chat", "-c", "128", *GREEDY, stdin="word " * 60).stderr == ""
    shifted = run_cli(*small, stdin="more " * 50)
    assert re.fullmatch(
        r"\(the context was full: the \d+ oldest tokens dropped \(--overflow shift\)\)\n",
        shifted.stderr,
    )
    dropped = run_cli(*small, "--overflow", "drop-turns", stdin="more " * 50)
    assert "oldest turns dropped (--overflow drop-turns)" in dropped.stderr
    refused = run_cli(*small, "--overflow", "refuse", stdin="more " * 50)
    assert refused.returncode == 1
    assert re.fullmatch(r"error: .*context.*\n", refused.stderr)
    kept = json.loads(run_cli("history", "export", "--json").stdout)["messages"]
    assert len(kept) == 6  # what was refused is not part of it


_HISTORY = "The parrot is green and likes nuts. " * 45  # 400 tokens and more


@pytest.mark.model
def test_what_was_read_is_not_read_again(run_cli: RunCLI, tmp_path: Path) -> None:
    states = tmp_path / "home" / "cache" / "states"

    def cached(*arguments: str) -> int:
        run = run_cli("--verbose", "chat", *arguments, *GREEDY, stdin="And?")
        (tokens,) = re.findall(r"prompt \d+ new \+ (\d+) cached", run.stderr)
        return int(tokens)

    assert cached("--system", _HISTORY) == 0
    assert [path.stat().st_mode & 0o077 for path in states.iterdir()] == [0]
    assert cached("--resume") > 370
    assert cached("--system", _HISTORY) > 370  # another conversation, with the same beginning
    run_cli("history", "rm", "last")
    assert not states.exists()  # they hold what was said
    for arguments in (["--no-history"], ["--memory", "400MiB"]):
        assert cached("--system", _HISTORY, *arguments) == 0
        assert not states.exists()


@pytest.mark.model
@pytest.mark.parametrize("damage", ["content", "folder"])
def test_a_chat_goes_on_without_a_history_that_is_damaged(
    run_cli: RunCLI, tmp_path: Path, damage: str
) -> None:
    home = tmp_path / "home"
    if damage == "content":
        home.mkdir()
        (home / "conversations.db").write_bytes(os.urandom(5000))
    else:
        home.write_text("a file where the folder should be")
    run = run_cli("chat", *GREEDY, stdin="Say hello.")
    assert run.returncode == 0
    assert run.stdout.strip()
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith(f"error: {home}")
    assert "not kept" in run.stderr
    assert run_cli("chat", "--resume", stdin="Say hello.").returncode == 1
    listed = run_cli("history")
    assert listed.returncode == 1
    assert re.fullmatch(r"error: .*\n", listed.stderr)


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ([], []),
        (["--resume"], ["--resume", "last"]),
        (["-r", "--plain"], ["-r", "last", "--plain"]),
        (["--resume", "7", "--plain"], ["--resume", "7", "--plain"]),
        (["--resume", "m.gguf"], ["--resume", "last", "m.gguf"]),
        (["--resume=7"], ["--resume=7"]),
        (["m.gguf", "--resume", "tea time"], ["m.gguf", "--resume", "tea time"]),
    ],
)
def test_resume_may_stand_alone(given: list[str], parsed: list[str]) -> None:
    assert with_resume_value(given) == parsed


def test_the_shell_completes_ids_and_personas(store: ConversationStore, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "home" / "personas").mkdir()
    (tmp_path / "home" / "personas" / "pirate.json").write_text("{}")

    def complete(line: str) -> list[str]:
        run = subprocess.run(
            [sys.executable, "-c", "import edge_llama.cli as cli; cli.main()"],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "EDGE_LLAMA_HOME": str(tmp_path / "home"),
                # The name that typer makes of the program's, which is -c here.
                "__C_COMPLETE": "complete_bash",
                "COMP_WORDS": f"edge-llama {line}",
                "COMP_CWORD": str(len(line.split(" "))),
            },
            check=False,
            timeout=60,
        )
        assert run.stderr == ""
        return run.stdout.split()

    assert complete("chat --persona pi") == ["pirate"]
    assert complete("chat --resume ") == ["3", "2", "1"]
    assert complete("hist") == ["history"]


def test_the_lists_load_no_native_library(tmp_path: Path) -> None:
    script = (
        "import sys; from edge_llama.cli.app import run; run(['history']); run(['persona']); "
        "bad = {'llama_cpp', 'numpy', 'prompt_toolkit'} & set(sys.modules); "
        "sys.exit(f'loaded {bad}' if bad else 0)"
    )
    environment = {**os.environ, "EDGE_LLAMA_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, check=False, timeout=60)
    assert run.returncode == 0
