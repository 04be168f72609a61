"""The chat as a person feels it: from the command to the first word, Ctrl-C, and going on later.

    python benchmarks/chat.py                 # the embedded model
    python benchmarks/chat.py MODEL.gguf --turns 12

Everything is measured from outside, on a pseudo-terminal: from the key, or the start of the
process, until the screen shows it. POSIX only.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from terminals import CTRL_C, CTRL_D, ENTER, PASTE_BEGIN, PASTE_END, Terminal

READY, ANSWERED = r"context \d+/\d+ \| ", r"context [1-9]\d*/\d+ \| [\d.]+ tokens/s"
WORD = r"\n\r?\w\w*"


def first_word(home: Path, *arguments: str) -> tuple[float, float]:
    """Return the seconds from the start to the input line, and to the first word of an answer."""
    started = time.perf_counter()
    chat = Terminal("chat", "--max-tokens", "5", *arguments, cwd=home)
    chat.wait_for(READY)
    ready = time.perf_counter() - started
    chat.type(b"Hello." + ENTER)
    chat.wait_for("Hello\\.")
    chat.wait_for(WORD)
    total = time.perf_counter() - started
    leave(chat)
    return ready, total


def stop(home: Path, question: bytes, until: str, wait: float, *arguments: str) -> float:
    """Return the seconds from Ctrl-C to the word that says that the answer was stopped."""
    chat = Terminal("chat", "--max-tokens", "2000", "--no-history", *arguments, cwd=home)
    chat.wait_for(READY)
    chat.type(PASTE_BEGIN + question + PASTE_END)
    chat.type(ENTER)
    chat.wait_for(until)
    time.sleep(wait)
    pressed = time.perf_counter()
    chat.type(CTRL_C)
    chat.wait_for(r"\(stopped;")
    seconds = time.perf_counter() - pressed
    leave(chat)
    return seconds


def resume(home: Path, turns: int, *arguments: str) -> dict[str, tuple[int, float, float]]:
    """Return context in tokens, prefill and start to first word of a long conversation, resumed.

    Once with the states that were saved, and once without.
    """
    chat = Terminal("chat", "--max-tokens", "40", *arguments, cwd=home)
    chat.wait_for(READY)
    for number in range(turns):
        text = " ".join(f"fact {number}-{i}: the parrot likes nuts," for i in range(12))
        chat.type(f"{text} what is it?".encode() + ENTER)
        chat.wait_for(ANSWERED, 300)
    leave(chat)
    results = {}
    for name in ("with its state", "without"):
        if name == "without":
            for file in (home / "home" / "cache").rglob("*.state"):
                file.unlink()
        started = time.perf_counter()
        chat = Terminal("chat", "--resume", "--max-tokens", "5", *arguments, cwd=home)
        chat.wait_for(READY)
        chat.type(b"And now?" + ENTER)
        chat.wait_for("And now")
        chat.wait_for(WORD, 300)
        total = time.perf_counter() - started
        shown = chat.wait_for(ANSWERED + r" \| prefill [\d.]+ s")
        ((tokens, prefill),) = re.findall(r"context (\d+)/.*prefill ([\d.]+) s$", shown)
        results[name] = int(tokens), float(prefill), total
        leave(chat)
    return results


def leave(chat: Terminal) -> None:
    """End a chat."""
    chat.type(CTRL_D)
    chat.wait()
    chat.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="*", help="a GGUF file; by default the embedded one")
    parser.add_argument("--turns", type=int, default=11, help="turns of the long conversation")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    arguments = options.model[:1]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        runs = [first_word(home, *arguments) for _ in range(options.runs)]
        print(f"start to input line: {statistics.median(run[0] for run in runs):.2f} s")
        print(f"start to first word: {statistics.median(run[1] for run in runs):.2f} s")
        for name, question, until, wait in (
            ("an answer", b"Write a very long story.", r"\n\r?\w\w+ \w+", 0.5),
            ("a prefill", b"word " * 3000, "…", 0.5),
        ):
            seconds = [stop(home, question, until, wait, *arguments) for _ in range(options.runs)]
            print(
                f"Ctrl-C in {name}: median {statistics.median(seconds) * 1000:.0f} ms, "
                f"most {max(seconds) * 1000:.0f} ms"
            )
        for name, (tokens, prefill, total) in resume(home, options.turns, *arguments).items():
            print(
                f"resumed {name}: {tokens} tokens, prefill {prefill:.2f} s, "
                f"start to first word {total:.2f} s"
            )


if __name__ == "__main__":
    main()
