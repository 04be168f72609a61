"""Uses the window without a user: proves that an installation works, takes the picture."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QEventLoop
from PySide6.QtWidgets import QApplication

from edge_llama import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from .window import ChatWindow


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> bool:
    """Run the event loop until ``condition`` holds; return whether it did in time."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        time.sleep(0.002)
    return held


def say(window: ChatWindow, text: str, click: Callable[[], None]) -> None:
    """Type ``text``, click, and wait for the end of the answer."""
    window.composer.setPlainText(text)
    click()
    wait_for(lambda: not window.is_busy)


def self_test(window: ChatWindow) -> int:
    """Ask something and print the answer; return 0 if there was one, 1 if an error was shown."""
    wait_for(lambda: not window.is_busy)
    window.sampling = Sampling(temperature=0, max_tokens=24)
    say(window, "What is the Moon?", window.send)
    if window.reply is None or not window.reply.text:
        sys.stderr.write(f"{window.error.text() or 'no answer in time'}\n")
        return 1
    sys.stdout.write(f"{window.reply.text}\n{window.memory.text()}, {window.speed.text()}\n")
    return 0


def screenshot(window: ChatWindow, path: str) -> int:
    """Have a conversation, fill the form, and save what the window then looks like."""
    wait_for(lambda: not window.is_busy)
    window.sampling = Sampling(seed=3)
    say(window, "Give me three tips for a good night's sleep.", window.send)
    say(
        window,
        "I am Ada Lovelace, age 36, and I live in London. My interests are poetry and music. "
        "Write to me by letter, no newsletter.",
        window.form.button.click,
    )
    wait_for(lambda: False, 0.5)  # until all is drawn
    return 0 if window.grab().save(path) else 1
