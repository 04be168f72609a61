"""What Tab offers: commands, options, paths, conversations and personas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.completion import Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from ... import personas
from ...errors import HistoryError
from ..options import SAMPLING_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prompt_toolkit.completion import CompleteEvent

    from .session import Session


class CommandCompleter(Completer):
    """Completes what begins with a slash, and nothing else."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Return what may stand at the cursor."""
        from .commands import COMMANDS

        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        word, space, argument = text.partition(" ")
        if not space:
            for command in COMMANDS.values():
                if command.name.startswith(word):
                    yield Completion(
                        command.name, start_position=-len(word), display_meta=command.help
                    )
            return
        kind = COMMANDS[word].completes if word in COMMANDS else ""
        if kind == "path":
            rest = Document(argument)
            yield from self._paths.get_completions(rest, event)
            return
        for name, meta in self._names(kind):
            if name.startswith(argument):
                yield Completion(name, start_position=-len(argument), display_meta=meta)

    def _names(self, kind: str) -> Iterable[tuple[str, str]]:
        if kind == "option":
            return SAMPLING_NAMES.items()
        if kind == "persona":
            return [(name, "") for name in personas.names()]
        if kind == "conversation" and self._session.store is not None:
            try:
                return [(str(one.id), one.title) for one in self._session.store.list(limit=20)]
            except HistoryError:
                return []
        return []
