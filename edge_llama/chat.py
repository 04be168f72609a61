"""A conversation: messages, and answers that are added to them."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypedDict

from .asyncstream import AsyncStream
from .errors import StateError
from .messages import Message
from .sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Unpack

    from .generate import Reply
    from .grammar import Grammar
    from .stream import Stream


class Answer(Protocol):
    """Begins an answer to the last of the messages; see :meth:`Model.chat`."""

    def __call__(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        grammar: Grammar | None,
        on_reply: Callable[[Reply], None],
        dropped_turns: int,
    ) -> Stream:
        """Return the answer's stream; ``dropped_turns`` were left out of the last prompt."""
        ...


class Saying(TypedDict, total=False):
    """How to answer in a conversation; see :meth:`Chat.stream`."""

    sampling: Sampling | None
    grammar: Grammar | None


class Chat:
    """A conversation with a model; made by :meth:`Model.chat`.

    Each turn is rendered with the model's chat template; what the model has already read stays
    in its cache and is not computed again. When the conversation outgrows the context,
    :attr:`ModelConfig.overflow` says what goes; ``messages`` stay complete, and the reply says how
    much of them the model no longer sees.
    """

    def __init__(
        self,
        start: Answer,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._start = start
        self._sampling = sampling or Sampling()
        self._lock = threading.Lock()
        self._answering: Stream | None = None
        self._messages: list[Message] = [Message("system", system)] if system else []
        self._dropped_turns = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far; an answer in progress is not part of it."""
        with self._lock:
            return tuple(self._messages)

    @messages.setter
    def messages(self, messages: Sequence[Message]) -> None:
        """Go on from another conversation, or from an earlier point of this one.

        Raises:
            StateError: an answer is being generated.
        """
        with self._lock:
            self._refuse_while_answering()
            self._messages = list(messages)
            self._dropped_turns = 0

    def stream(
        self, text: str, *, sampling: Sampling | None = None, grammar: Grammar | None = None
    ) -> Stream:
        """Say ``text`` and return the answer as it is generated, within ``grammar`` if given.

        Question and answer join the conversation together when the answer ends. A cancelled
        answer joins as far as it came; one that fails, or was cancelled before its first word,
        leaves the conversation as it was.

        Raises:
            StateError: the answer before this one is still being generated.
            ContextOverflowError: it does not fit, with all dropped that may be.
            GrammarError: the grammar cannot be used with this model's vocabulary.
        """
        question = Message("user", text)

        def keep(reply: Reply) -> None:
            if reply.text or reply.finish_reason != "cancelled":
                with self._lock:
                    self._messages += [question, Message("assistant", reply.text)]
                    self._dropped_turns = reply.dropped_turns

        with self._lock:
            self._refuse_while_answering()
            messages = [*self._messages, question]
            self._answering = self._start(
                messages, sampling or self._sampling, grammar, keep, self._dropped_turns
            )
            return self._answering

    def send(
        self, text: str, *, sampling: Sampling | None = None, grammar: Grammar | None = None
    ) -> Reply:
        """Say ``text`` and return the whole answer; errors as for :meth:`stream`."""
        with self.stream(text, sampling=sampling, grammar=grammar) as stream:
            return stream.reply

    def astream(self, text: str, **how: Unpack[Saying]) -> AsyncStream:
        """Return as :meth:`stream` in a form that never blocks the event loop.

        The answer begins when its first text, or the reply, is awaited.
        """
        return AsyncStream(partial(self.stream, text, **how))

    async def asend(self, text: str, **how: Unpack[Saying]) -> Reply:
        """Return as :meth:`send` without blocking the event loop."""
        async with self.astream(text, **how) as stream:
            return await stream.reply()

    def clear(self) -> None:
        """Forget the conversation, except the system prompt."""
        with self._lock:
            self._messages = [message for message in self._messages if message.role == "system"]
            self._dropped_turns = 0

    def _refuse_while_answering(self) -> None:
        if self._answering is not None and not self._answering.finished:
            raise StateError(
                "the previous answer is still being generated",
                hint="Read it to its end, or cancel() it and wait for its reply.",
            )
