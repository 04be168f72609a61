"""The desktop example, used as a person would, in a window that nobody sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema  # type: ignore[import-untyped]
import pytest

pytest.importorskip(
    "PySide6.QtWidgets",
    reason="needs PySide6-Essentials and the system libraries of Qt",
    exc_type=ImportError,
)
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import qtprogram
from desktop.form import EXAMPLE
from desktop.rehearsal import wait_for
from desktop.window import ChatWindow
from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from edge_llama import Sampling
from edge_llama.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.model

EXAMPLES = Path(__file__).parents[1] / "examples"
LONG = "The river bends and the birds sing in the old trees. " * 60  # about 720 tokens


@pytest.fixture(scope="module")
def opened() -> Iterator[ChatWindow]:
    _app = QApplication([])
    window = ChatWindow()
    window.show()
    window.activateWindow()
    window.load()
    assert wait_for(lambda: not window.is_busy)
    yield window
    window.close()
    window.shut_down()


@pytest.fixture
def window(opened: ChatWindow) -> ChatWindow:
    """The window with the embedded model, a new conversation, and short answers."""
    opened.clear()
    opened.sampling = Sampling(seed=1, max_tokens=12)
    return opened


def finish(window: ChatWindow) -> None:
    assert wait_for(lambda: not window.is_busy)


def shown(window: ChatWindow) -> list[str]:
    return [bubble.text for bubble in window.conversation.bubbles]


def test_a_message_is_typed_and_answered(window: ChatWindow) -> None:
    QTest.keyClicks(window.composer, "Say hello.")
    QTest.keyClick(window.composer, Qt.Key.Key_Return)
    assert window.composer.toPlainText() == ""
    assert not window.send_button.isEnabled()
    finish(window)
    assert window.reply is not None
    assert window.reply.text
    assert shown(window) == ["Say hello.", window.reply.text]
    assert "tokens/s" in window.speed.text()
    assert wait_for(lambda: window.memory.text().endswith("MiB"), 10)
    QTest.keyClicks(window.composer, "Again")
    QTest.keyClick(window.composer, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(window.composer, "please.")
    QTest.mouseClick(window.send_button, Qt.MouseButton.LeftButton)
    finish(window)
    assert shown(window)[2] == "Again\nplease."
    assert window.reply.cached_tokens > 0


def test_escape_stops_an_answer_of_which_the_beginning_stays(window: ChatWindow) -> None:
    window.sampling = Sampling(seed=1)
    QTest.keyClicks(window.composer, "Write a long story about a lighthouse.")
    QTest.keyClick(window.composer, Qt.Key.Key_Return)
    assert wait_for(lambda: len(shown(window)[-1]) > 10)
    QTest.keyClick(window, Qt.Key.Key_Escape)
    finish(window)
    assert window.reply is not None
    assert window.reply.finish_reason == "cancelled"
    assert shown(window)[-1] == window.reply.text
    assert "stopped" in window.speed.text()


def test_stop_works_while_the_prompt_is_read(window: ChatWindow) -> None:
    window.composer.setPlainText(LONG)
    window.send()
    wait_for(lambda: False, 0.2)
    assert window.is_busy
    QTest.mouseClick(window.stop_button, Qt.MouseButton.LeftButton)
    finish(window)
    assert window.reply is not None
    assert (window.reply.finish_reason, window.reply.text) == ("cancelled", "")
    wait_for(lambda: len(shown(window)) == 1)
    assert shown(window) == [LONG.strip()]  # there is nothing below it


def test_the_window_lives_while_the_model_works(
    window: ChatWindow, record_property: Callable[[str, object], None]
) -> None:
    beats: list[float] = []
    heart = QTimer(interval=5)
    heart.timeout.connect(lambda: beats.append(time.perf_counter()))
    heart.start()
    window.composer.setPlainText(f"{LONG}\nSummarise this.")
    window.send()
    finish(window)
    heart.stop()
    assert window.reply is not None
    assert window.reply.prompt_tokens - window.reply.cached_tokens > 600
    longest = max(after - before for before, after in pairwise(beats))
    record_property("longest gap", longest)
    # Waiting for the model anywhere would show as a gap of the whole prefill, or a decode.
    assert longest < max(0.2, window.reply.prefill_seconds / 4), f"{longest * 1000:.0f} ms"


def test_a_schema_becomes_a_form_that_the_model_fills(window: ChatWindow) -> None:
    schema = {
        "type": "object",
        "properties": {
            "fruit": {"enum": ["apple", "plum", None]},
            "grams": {"type": "number", "minimum": 2.5, "maximum": 900},
            "box": {"$ref": "#/$defs/box"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 2},
            "sizes": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        },
        "required": ["fruit", "grams", "box", "tags", "sizes"],
        "additionalProperties": False,
        "$defs": {
            "box": {
                "type": "object",
                "properties": {
                    "count": {"type": "integer", "minimum": 3, "maximum": 40},
                    "open": {"type": "boolean"},
                    "label": {"type": "string", "maxLength": 20},
                },
                "required": ["count", "open", "label"],
                "additionalProperties": False,
            }
        },
    }
    window.form.editor.setPlainText(json.dumps(schema)[:-1])
    assert wait_for(lambda: bool(window.form.fault.text()), 5)
    window.composer.setPlainText("A box of 12 plums, 40 grams each, is open.")
    QTest.mouseClick(window.form.button, Qt.MouseButton.LeftButton)
    assert not window.is_busy  # that was no schema
    window.form.editor.setPlainText(json.dumps(schema))
    QTest.mouseClick(window.form.button, Qt.MouseButton.LeftButton)
    assert window.is_busy
    finish(window)
    assert not window.error.isVisible(), window.error.text()
    assert window.reply is not None
    assert window.form.field.value() == window.reply.parse()
    jsonschema.validate(window.form.field.value(), schema)
    window.form.editor.setPlainText(EXAMPLE)


def test_what_goes_wrong_is_said_in_the_window(window: ChatWindow, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(50))
    model = window.model
    window.load(str(bad))
    finish(window)
    assert window.error.isVisible()
    assert "bad.gguf" in window.error.text()
    assert "Traceback" not in window.error.text()
    assert window.model is model  # a file that is no good does not cost the one that is open
    window.composer.setPlainText("still there " * 3000)
    window.send()
    finish(window)
    assert "context" in window.error.text()
    window.composer.setPlainText("Hello?")
    window.send()
    assert not window.error.isVisible()
    finish(window)
    assert shown(window)[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_the_window_outlives_its_model(window: ChatWindow) -> None:
    window.sampling = Sampling(seed=1)
    window.composer.setPlainText("Write a long story.")
    window.send()
    assert wait_for(lambda: len(shown(window)[-1]) > 10)
    assert window.model is not None
    worker = window.model._opened
    assert isinstance(worker, Worker)
    os.kill(worker.pid, signal.SIGKILL)
    finish(window)
    assert "SIGKILL" in window.error.text()
    window.sampling = Sampling(max_tokens=5)
    window.composer.setPlainText("Hello?")
    window.send()
    finish(window)
    assert not window.error.isVisible()
    assert shown(window)[-1]


def test_loading_shows_its_progress_and_can_be_stopped(window: ChatWindow, embedded: Path) -> None:
    seen: list[int] = []
    window.progress.valueChanged.connect(seen.append)
    window.load(str(embedded))
    assert window.progress.isVisible()
    QTest.mouseClick(window.stop_button, Qt.MouseButton.LeftButton)
    finish(window)
    assert not window.error.isVisible()
    assert window.name.text() == "no model"
    assert not window.send_button.isEnabled()
    seen.clear()
    window.load(str(embedded))
    finish(window)
    assert not window.progress.isVisible()
    assert len(set(seen)) > 5, seen
    assert max(seen) == 100
    window.composer.setPlainText("Hello?")
    window.send()
    finish(window)
    assert shown(window)[-1]


def test_the_window_closes_in_the_middle_of_an_answer() -> None:
    ended = qtprogram.run(
        EXAMPLES / "desktop_chat.py",
        """
        bubbles = window.conversation.bubbles
        if window.model and not bubbles:
            window.composer.setPlainText("Write a long story.")
            window.send()
        elif bubbles and bubbles[-1].text and window.isVisible():
            print("closing", window.is_busy)
            window.close()
        """,
    )
    assert ended.stdout == "closing True\n"
    assert ended.stderr == ""
    assert ended.returncode == 0


def test_it_tests_itself() -> None:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / "desktop_chat.py"), "--self-test"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "tokens/s" in ended.stdout
