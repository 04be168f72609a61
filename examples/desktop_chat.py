"""A chat window on edge-llama and Qt: pip install 'edge-llama[demo]' PySide6-Essentials.

    python examples/desktop_chat.py [MODEL]

``desktop/tasks.py`` is how to keep a window responsive: a thread for each thing that takes long,
and signals. ``pyinstaller examples/desktop_chat.py`` makes a folder that needs no Python.
"""

from __future__ import annotations

import argparse
import os
import sys

from desktop.window import ChatWindow
from PySide6.QtWidgets import QApplication


def main() -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description="Chat with a model in a window.")
    parser.add_argument("model", nargs="?", help="a GGUF file; by default the embedded model")
    parser.add_argument("--self-test", action="store_true", help="ask one thing, print the answer")
    parser.add_argument("--screenshot", metavar="FILE", help="use it all, and save a picture of it")
    options = parser.parse_args()
    if options.self_test or options.screenshot:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QApplication(sys.argv[:1])
    app.setStyle("Fusion")
    window = ChatWindow()
    window.show()
    window.load(options.model)
    try:
        if options.self_test:
            from desktop.rehearsal import self_test

            return self_test(window)
        if options.screenshot:
            from desktop.rehearsal import screenshot

            return screenshot(window, options.screenshot)
        return app.exec()
    finally:
        window.shut_down()


if __name__ == "__main__":
    sys.exit(main())
