"""The programs of docs/embedding.md, taken from the page and run as they are."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import qtprogram

from edge_llama import Model, Sampling, _pyinstaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.model

PAGE = Path(__file__).parents[1] / "docs" / "embedding.md"
PROGRAMS = dict(
    re.findall(
        r"^## (\w+)$(?:(?!^#).)*?^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
)


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAMS[request.param], encoding="utf-8")
    return path


def test_the_page_has_four_programs() -> None:
    assert list(PROGRAMS) == ["PySide", "Tk", "asyncio", "ASGI"]


@pytest.mark.parametrize("program", ["PySide"], indirect=True)
def test_pyside(program: Path) -> None:
    pytest.importorskip("PySide6.QtWidgets", reason="needs Qt", exc_type=ImportError)
    ended = qtprogram.run(
        program,
        """
        shown = window.view.toPlainText()
        if not window.line.text():
            window.line.setText("Write a long story.")
            window.line.returnPressed.emit()
        elif len(shown) > 20 and not window.stream.finished:
            window.stream.cancel()
        elif len(shown) > 20 and window.isVisible():
            print(window.stream.reply.finish_reason, shown == window.stream.reply.text)
            window.close()
        """,
    )
    assert ended.stderr == ""
    assert ended.stdout == "cancelled True\n"
    assert ended.returncode == 0


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """The user's screen, or else one that nobody sees."""
    if "DISPLAY" in os.environ:
        yield os.environ["DISPLAY"]
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("needs a display, or Xvfb (apt-get install xvfb)")
    command = ["Xvfb", "-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "800x600x24"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        yield f":{server.stdout.readline().decode().strip()}"
        server.terminate()


# As in qtprogram: from where the program waits for its user on, there is one.
_TK_DRIVER = """
import runpy, sys, tkinter

event_loop = tkinter.Misc.mainloop

def use(window):
    shown = window.view.get("1.0", "end-1c")
    if not window.line.get():
        window.line.insert(0, "Write a long story.")
        window.line.focus_force()
        window.line.event_generate("<Return>")
    elif len(shown) > 20 and not window.stream.finished:
        window.event_generate("<Escape>")
    elif len(shown) > 20 and window.said.empty():
        print(window.stream.reply.finish_reason, shown == window.stream.reply.text)
        window.destroy()
        return
    window.after(20, use, window)

def mainloop(window, n=0):
    window.after(20, use, window)
    event_loop(window, n)

tkinter.Misc.mainloop = mainloop
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.skipif(importlib.util.find_spec("tkinter") is None, reason="this Python has no Tk")
@pytest.mark.parametrize("program", ["Tk"], indirect=True)
def test_tk(program: Path, display: str) -> None:
    ended = python("-c", _TK_DRIVER, str(program), DISPLAY=display)
    assert ended.stderr == ""
    assert ended.stdout == "cancelled True\n"
    assert ended.returncode == 0


@pytest.mark.parametrize("program", ["asyncio"], indirect=True)
def test_asyncio(program: Path) -> None:
    ended = python(str(program))
    assert ended.stderr == ""
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    subjects = [line.split(":")[0] for line in lines]
    assert {"rain", "snow"} <= set(subjects[:8])  # at the same time
    enough = lines.index("enough")
    assert subjects[enough - 1] == "everything"
    assert lines[enough + 1 :]  # the goodbye, at once: what was cancelled is in nobody's way


@pytest.mark.skipif(sys.platform == "win32", reason="the app is a script with a first line")
def test_a_bundle_starts_itself_as_the_worker(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyInstaller runs the hook before the app; sys.executable is the app in it."""
    hook = Path(_pyinstaller.__file__).parent / "rthooks" / "pyi_rth_edge_llama.py"
    app = tmp_path / "app"
    app.write_text(
        f"#!{sys.executable}\nimport runpy, sys\nsys.path[:] = {sys.path!r}\n"
        f"runpy.run_path({str(hook)!r})\nsys.exit('a window')\n"
    )
    app.chmod(0o755)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(app))
    with Model.open(embedded, n_ctx=256, isolate=True) as model:
        assert model.generate("Hello!", sampling=Sampling(max_tokens=4)).text


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


class Client:
    """Speaks ASGI with an application: sends ``prompt``, and leaves after ``leave_after`` texts."""

    def __init__(self, prompt: str, leave_after: int | None = None) -> None:
        half = len(prompt) // 2
        self._requests: list[dict[str, Any]] = [
            {"type": "http.request", "body": prompt[:half].encode(), "more_body": True},
            {"type": "http.request", "body": prompt[half:].encode()},
        ]
        self._left = asyncio.Event()
        self._leave_after = leave_after
        self.start: dict[str, Any] = {}
        self.texts: list[str] = []
        self.complete = False

    async def receive(self) -> dict[str, Any]:
        if self._requests:
            return self._requests.pop(0)
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self.start = event
        elif event.get("more_body"):
            line = event["body"].decode()
            assert line.startswith("data: ")
            assert line.endswith("\n\n")
            self.texts.append(json.loads(line.removeprefix("data: ")))
            if len(self.texts) == self._leave_after:
                self._left.set()
        else:
            self.complete = True


def test_asgi() -> None:
    names: dict[str, Any] = {}
    exec(compile(PROGRAMS["ASGI"], str(PAGE), "exec"), names)
    app: Callable[..., Awaitable[None]] = names["app"]

    async def ask(*clients: Client) -> None:
        scope = {"type": "http", "method": "POST", "path": "/"}
        await asyncio.gather(*(app(scope, one.receive, one.send) for one in clients))

    async def visit() -> None:
        patient, impatient = Client("Name a fruit."), Client("Write a long story.", leave_after=3)
        await asyncio.wait_for(ask(patient, impatient), 100)
        assert (b"content-type", b"text/event-stream") in patient.start["headers"]
        assert patient.start["status"] == 200
        assert patient.complete
        assert "".join(patient.texts).strip()
        assert 3 <= len(impatient.texts) < 60  # it would have been hundreds

    with names["model"]:
        asyncio.run(visit())
