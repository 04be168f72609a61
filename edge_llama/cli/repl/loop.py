"""The loop of the chat: read, obey or answer, again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...errors import EdgeLlamaError
from .. import console
from ..interrupt import Leave
from ..runtime import show_logprobs
from .answering import answer
from .commands import find_command
from .entry import Entry
from .telling import endings
from .view import make_view

if TYPE_CHECKING:
    from ...conversations import Conversation
    from .session import Session

_COMMAND = re.compile(r"/[a-z?]\S*")


class Repl:
    """A chat in a terminal."""

    def __init__(self, session: Session, *, plain: bool) -> None:
        self.session, self._plain = session, plain
        self.entry = Entry(session)
        self._interrupted = False

    def run(self) -> None:
        """Talk until the person leaves; KeyboardInterrupt if that is by Ctrl-C."""
        while True:
            try:
                text = self.entry.read()
                self._interrupted = False
                self._take(text)
            except Leave:
                raise
            except KeyboardInterrupt:
                if self._interrupted:
                    raise
                self._interrupted = True
                console.note("(Ctrl-C again, Ctrl-D or /bye leaves)")
            except EOFError:
                return
            except EdgeLlamaError as failure:
                console.error(str(failure), failure.hint)

    def _take(self, text: str) -> None:
        match = _COMMAND.match(text)
        if match is None:
            message = text[1:] if text.startswith("//") else text
            if message.strip():
                self.ask(message)
            return
        command = find_command(match[0])
        if command is None:
            console.note(f"(unknown command {match[0]}; /help lists them, / before it sends it)")
        else:
            command.run(self, text[match.end() :].strip())

    def ask(self, question: str) -> None:
        """Ask, and show the answer and what must be said of it."""
        plain = self._plain or self.session.persona.schema is not None  # JSON is no Markdown
        reply = answer(self.session, question, make_view(plain=plain))
        show_logprobs(reply)
        for line in endings(reply, self.session.model.config.overflow):
            console.note(f"({line})")
        console.show("")
        self._interrupted = reply.finish_reason == "cancelled"

    def resume(self, conversation: Conversation) -> None:
        """Go on with a conversation, and show where it was."""
        session = self.session
        session.resume(conversation)
        console.note(f"(conversation {conversation.id}: {conversation.title})")
        question, last = session.question, session.answer
        if session.is_unanswered:
            console.note(f"(the last question has no answer: {question}; /retry asks it)")
        elif question is not None and last is not None:
            console.note(f"> {question}")
            view = make_view(plain=self._plain)
            view.push(last)
            view.end()
            if session.is_cut_off:
                console.note("(cut off there; /retry asks again)")
        console.show("")
