"""Open damaged files in child processes, so that one that ends the process is found, not fatal.

As a script it is such a child: a line ``BASE SEED`` comes in, and what became of the file goes out
as one line of JSON. The parent's side is :func:`run`.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ggufs import GGUF

#: A base (see :func:`load_base`) and a seed.
Case = tuple[str, int]

TEXT = "H\u00e9 the moon \x01 \u4e2d \U0001f642\n\n  1234 \udcff"
#: Seconds after which a child that says nothing is taken to hang.
PATIENCE = 20.0


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged file.

    ``ending`` is "works", the name of a typed error, "CRASH ..." or "HANG"; ``seconds`` is the time
    that opening took, ``mib`` the memory at its peak, beyond before, of opening and use.
    """

    case: Case
    ending: str
    seconds: float = 0.0
    mib: float = 0.0
    message: str = ""


def run(cases: Sequence[Case], folder: Path) -> Iterator[Outcome]:
    """Open every case in child processes; each that dies is reported and replaced."""
    done = 0
    while done < len(cases):
        for outcome in _run_child(cases[done:], folder):
            done += 1
            yield outcome


def _run_child(cases: Sequence[Case], folder: Path) -> Iterator[Outcome]:
    with (
        (folder / "stderr.txt").open("w+b") as stderr,
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            for case in cases:
                child.stdin.write("{} {}\n".format(*case).encode())
                child.stdin.flush()
                if not select.select([child.stdout], [], [], PATIENCE)[0]:
                    yield Outcome(case, "HANG", PATIENCE)
                    return
                line = child.stdout.readline()
                if not line:
                    code = child.wait()
                    stderr.seek(0)
                    said = stderr.read().decode(errors="replace").strip()
                    yield Outcome(case, f"CRASH {code}", message=said[-2000:])
                    return
                yield Outcome(case, **json.loads(line))
        finally:
            child.kill()


def load_base(name: str) -> list[GGUF]:
    """Return the parts of a sound model: small ones of several kinds, or a file's.

    "real" is a small one with the vocabulary of the embedded model.
    """
    import builders
    import ggufs
    import smallmodels

    if name == "embedded":
        return [ggufs.read(builders.embedded_gguf())]
    if name == "real":
        return [smallmodels.with_vocabulary_of(ggufs.read(builders.embedded_gguf()))]
    if name == "split":
        model = smallmodels.small_llama()
        return ggufs.split(model, [2, 9, len(model.tensors) - 11])
    vocabulary, _, experts = name.partition("-")
    return [smallmodels.small_llama(vocabulary, experts=int(experts or 0))]


def resident(name: str) -> float:
    """Return VmRSS or VmHWM of this process in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


def open_and_use(path: Path) -> dict[str, Any]:
    """Open a file and generate with it; return what is known of the :class:`Outcome`."""
    from edge_llama import EdgeLlamaError, Model, Sampling

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
    before, started = resident("VmRSS"), time.perf_counter()
    ending, message, seconds = "works", "", None
    try:
        with Model.open(path, threads=1) as model:
            seconds = time.perf_counter() - started
            sampling = Sampling(temperature=0, max_tokens=2)
            model.generate(TEXT, sampling=sampling, raw=True)
            if model.has_chat_template:
                model.generate(TEXT, sampling=sampling)
    except EdgeLlamaError as error:
        ending, message = type(error).__name__, f"{error} | {error.hint}"
        if not (error.hint and message.isprintable()):
            raise
    seconds = seconds or time.perf_counter() - started
    mib = resident("VmHWM") - before
    return {"ending": ending, "message": message, "seconds": round(seconds, 4), "mib": mib}


def _serve(folder: Path, cases: Iterable[str]) -> None:
    import ggufs
    import mutations

    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # native code may print when it dies
    faulthandler.enable()
    bases: dict[str, list[GGUF]] = {}
    for line in cases:
        name, seed = line.rsplit(maxsplit=1)
        stem = f"damaged-{os.getpid()}"
        if name not in bases:
            bases[name] = load_base(name)
            paths = ggufs.write_parts(folder, stem, bases[name])
            assert open_and_use(paths[0])["ending"] == "works"  # what is loaded once is now
        parts, number = bases[name], int(seed)
        paths = ggufs.write_parts(folder, stem, parts)
        if number >= 0:  # of -1 the sound file itself
            chosen = number % len(parts)
            paths[chosen].write_bytes(mutations.mutate(parts[chosen], number))
        print(json.dumps(open_and_use(paths[0])), file=answers, flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.stdin)
