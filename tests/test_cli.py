"""The commands as processes: output, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    RunCLI = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = [
    "chat",
    "generate",
    "convert",
    "inspect",
    "verify",
    "perplexity",
    "bench",
    "doctor",
    "info",
    "models",
    "pull",
    "rm",
    "history",
    "persona",
]


def assert_one_line_error(run: subprocess.CompletedProcess[str], *parts: str) -> None:
    lines = run.stderr.strip().splitlines()
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert run.stdout == ""


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_shows_an_example_and_loads_no_native_code(command: list[str]) -> None:
    script = (
        "import sys; from edge_llama.cli.app import run; code = run(sys.argv[1:]); "
        "bad = {'llama_cpp', 'numpy', 'gguf', 'tokenizers', 'jinja2'} & set(sys.modules); "
        "sys.exit(f'loaded {bad}' if bad else code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, *command, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"},
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if command:
        assert f"Example: edge-llama {command[0]}" in run.stdout.replace("`", "")
    else:
        assert all(name in run.stdout for name in COMMANDS)


def test_version(run_cli: RunCLI) -> None:
    assert run_cli("--version").stdout.startswith("edge-llama 0.")


@pytest.mark.model
def test_chat_answers_a_piped_prompt_once(run_cli: RunCLI) -> None:
    run = run_cli(
        "chat", "--seed", "1", "--max-tokens", "40", stdin="What is the capital of France?"
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.strip()) > 3


def test_chat_with_nothing_to_answer(run_cli: RunCLI) -> None:
    run = run_cli("chat")
    assert run.returncode == 1
    assert_one_line_error(run, "standard input is empty")


@pytest.mark.model
def test_generate_prints_the_answer_and_nothing_else(run_cli: RunCLI) -> None:
    options = ["--temp", "0", "--max-tokens", "12"]
    run = run_cli("generate", "Say hello.", *options)
    assert (run.returncode, run.stderr) == (0, "")
    assert run_cli("generate", "-", *options, stdin="Say hello.\n").stdout == run.stdout
    assert run_cli("generate", *options, stdin="Say hello.\n").stdout == run.stdout


@pytest.mark.model
def test_what_leaves_the_context_is_shown(run_cli: RunCLI) -> None:
    shifting = ("generate", "--raw", "-c", "64", "--max-tokens", "2", "--overflow", "shift")
    run = run_cli(*shifting, stdin="word " * 80)
    assert run.returncode == 0
    assert run.stderr == "(the 32 oldest tokens dropped)\n"
    refused = run_cli("generate", "--raw", "-c", "64", "--overflow", "refuse", stdin="word " * 80)
    assert refused.returncode == 1
    assert_one_line_error(refused, "the context 64", "--ctx")


@pytest.mark.model
def test_generate_json(run_cli: RunCLI, embedded: Path) -> None:
    run = run_cli(
        "generate",
        str(embedded),
        "Say hello.",
        "--json",
        "--seed",
        "3",
        "--max-tokens",
        "12",
        "--stop",
        "zzz",
    )
    assert (run.returncode, run.stderr) == (0, "")
    reply = json.loads(run.stdout)
    assert reply["text"]
    assert reply["finish_reason"] in {"stop", "length"}
    assert reply["seed"] == 3
    assert reply["usage"]["prompt_tokens"] > 10
    assert 0 < reply["usage"]["completion_tokens"] <= 12
    assert reply["timings"]["prefill_seconds"] > 0


@pytest.mark.model
def test_generate_with_system_prompt_and_raw(run_cli: RunCLI) -> None:
    common = ["--temp", "0", "--max-tokens", "8"]
    system = run_cli("generate", "Hello", "--system", "Talk like a pirate.", *common)
    raw = run_cli("generate", "Once upon a time", "--raw", *common)
    assert system.returncode == raw.returncode == 0
    both = run_cli("generate", "x", "--raw", "--system", "y")
    assert both.returncode == 2
    assert_one_line_error(both, "exclude each other")


def test_convert_takes_the_name_of_a_pre_tokenizer(run_cli: RunCLI, tiny_checkpoint: Path) -> None:
    wrong = run_cli("convert", str(tiny_checkpoint), "--pre", "llama-bp")
    assert wrong.returncode == 1
    assert "unknown pre-tokenizer 'llama-bp'" in wrong.stderr
    assert "llama-bpe" in wrong.stderr
    assert run_cli("convert", str(tiny_checkpoint), "--pre", "smollm").returncode == 0


def test_convert_names_the_file_and_shows_what_is_in_it(
    run_cli: RunCLI, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run = run_cli("convert", str(tiny_checkpoint), "--type", "Q8_0")
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"models{os.sep}tiny-q8_0.gguf\n"
    assert (tmp_path / "models" / "tiny-q8_0.gguf").is_file()
    for part in ("Q8_0", "F32", "bits per weight", "peak memory"):
        assert part in run.stderr
    shown = run_cli("inspect", "tiny-q8_0", "--json")
    facts = json.loads(shown.stdout)
    assert facts["layers"] == 2
    assert facts["memory"]["q8_0"]["8192"] < facts["memory"]["f16"]["8192"]
    assert re.search(r"q4_0( +[\d.]+ MiB){3}", run_cli("inspect", "tiny-q8_0").stdout)
    again = run_cli("convert", str(tiny_checkpoint), "--type", "q8_0")
    assert again.returncode == 1
    assert_one_line_error(again, "tiny-q8_0.gguf", "already exists", "--force")
    assert run_cli("convert", str(tiny_checkpoint), "--type", "q8_0", "--force").returncode == 0


def test_convert_takes_a_gguf_and_asks_before_quantising_twice(
    run_cli: RunCLI, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run_cli("convert", str(tiny_checkpoint), "--type", "q8_0", "-o", "some-q8_0.gguf")
    refused = run_cli("convert", "some-q8_0.gguf", "--type", "q4_0")
    assert refused.returncode == 1
    assert "already quantised" in refused.stderr
    assert "--requantize" in refused.stderr
    run = run_cli("convert", "some-q8_0.gguf", "--type", "q4_0", "--requantize")
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{Path('models') / 'some-q4_0.gguf'}\n"
    assert (tmp_path / "models" / "some-q4_0.gguf").is_file()


def test_a_gguf_that_llama_cpp_does_not_load_is_named_before_the_work(
    run_cli: RunCLI, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run_cli("convert", str(tiny_checkpoint), "--type", "f16", "-o", "some.gguf")
    content = (tmp_path / "some.gguf").read_bytes()
    (tmp_path / "some.gguf").write_bytes(content.replace(b"smollm", b"smollx", 1))
    run = run_cli("convert", "some.gguf", "-o", "out.gguf")
    assert_one_line_error(run, "some.gguf", "unknown pre-tokenizer type: 'smollx'")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["convert", "nowhere"], 1, ["nowhere", "no such folder"]),
        (["convert", "."], 1, [".", "empty"]),
        (["convert", ".", "--type", "q9"], 2, ["q9", "q4_k_m"]),
        (["generate", "nothing.gguf", "x"], 1, ["nothing.gguf", "edge-llama convert"]),
        (["chat", "nothing"], 1, ["nothing"]),
        (["inspect", "nothing"], 1, ["nothing"]),
        (["generate", "x", "--temp", "-1"], 2, ["temperature"]),
        (["generate", "x", "--ctx", "3"], 2, ["n_ctx"]),
        (["generate", "x", "--ctx", "999999999"], 1, ["this machine has", "--ctx"]),
        (["generate", ""], 2, ["empty"]),
    ],
)
def test_errors_are_one_line_with_a_remedy(
    run_cli: RunCLI, arguments: list[str], code: int, parts: list[str]
) -> None:
    run = run_cli(*arguments, stdin="hello")
    assert run.returncode == code
    assert_one_line_error(run, *parts)


@pytest.mark.parametrize("command", ["generate", "chat", "inspect"])
def test_a_file_that_is_no_gguf(run_cli: RunCLI, tmp_path: Path, command: str) -> None:
    (tmp_path / "x.gguf").write_bytes(b"hello, I am a text file")
    run = run_cli(command, "x.gguf", stdin="hello")
    assert run.returncode == 1
    assert_one_line_error(run, "x.gguf", "not a GGUF")


def test_a_truncated_model(run_cli: RunCLI, tmp_path: Path, embedded: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(embedded.read_bytes()[:50_000_000])
    run = run_cli("generate", "x.gguf", "hello")
    assert run.returncode == 1
    assert_one_line_error(run, "x.gguf", "truncated")


@pytest.mark.parametrize("arguments", [["nonsense"], ["convert"], ["generate", "--no-such-option"]])
def test_wrong_usage_exits_with_2(run_cli: RunCLI, arguments: list[str]) -> None:
    run = run_cli(*arguments)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


@pytest.mark.model
@pytest.mark.skipif(os.name != "posix", reason="uses a POSIX shell pipe")
def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    run = subprocess.run(
        f"{sys.executable} -m edge_llama generate 'Count to 100.' --max-tokens 60 | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in run.stderr
    assert "Exception" not in run.stderr


def test_ctrl_c_in_a_callback_of_c_is_not_lost() -> None:
    script = (
        "import ctypes, signal, sys, time\n"
        "from edge_llama.cli.interrupt import keep_interrupts\n"
        "keep_interrupts()\n"
        "press = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))\n"
        "try:\n"
        "    press()\n"
        "    time.sleep(20)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (130, b"")
