"""The input line: several lines, what was asked before, completion, and the status below."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output import create_output
from prompt_toolkit.styles import Style

from ...errors import HistoryError
from .completion import CommandCompleter
from .toolbar import status_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyPressEvent
    from prompt_toolkit.output import Output

    from .session import Session

#: Most questions of earlier conversations that the up arrow goes back to.
_HISTORY = 1000
_STYLE = Style.from_dict(
    {
        "prompt": "ansicyan bold",
        "continuation": "ansicyan",
        "bottom-toolbar": "noreverse ansibrightblack",
    }
)


class _Questions(History):
    """What was asked in all conversations; they are where it is kept, and deleted with them."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def load_history_strings(self) -> Iterable[str]:
        """Return the questions, newest first."""
        store = self._session.store
        if store is None:
            return []
        try:
            return store.questions(_HISTORY)
        except HistoryError:  # whoever writes to it next says so
            return []

    def store_string(self, string: str) -> None:
        """Do nothing: the conversation keeps it."""


class Entry:
    """Reads messages from a terminal."""

    def __init__(self, session: Session) -> None:
        self._prompt: PromptSession[str] = PromptSession(
            history=_Questions(session),
            multiline=True,
            key_bindings=_keys(),
            completer=CommandCompleter(session),
            complete_while_typing=True,
            bottom_toolbar=lambda: status_line(session, shutil.get_terminal_size().columns - 1),
            prompt_continuation=_continuation,
            style=_STYLE,
            reserve_space_for_menu=4,
            output=_output(),
        )

    def read(self, default: str = "") -> str:
        """Return a message.

        Raises:
            KeyboardInterrupt: Ctrl-C on an empty line.
            EOFError: Ctrl-D on an empty line.
        """
        return self._prompt.prompt([("class:prompt", "> ")], default=default)


def _continuation(_width: int, _line: int, wraps: int) -> StyleAndTextTuples:
    """Return what stands before a further line; nothing before the rest of a long one."""
    return [] if wraps else [("class:continuation", ". ")]


def _output() -> Output:
    """Return where the line is drawn; not on standard output if that is no terminal."""
    return create_output(stdout=sys.stdout if sys.stdout.isatty() else sys.stderr)


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        before = buffer.document.current_line_before_cursor
        if before.endswith("\\") and not buffer.document.text_after_cursor:
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys
