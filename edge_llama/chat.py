"""A conversation: messages, and answers that are added to them."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from .errors import StateError
from .sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .generate import Reply
    from .stream import Stream

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


class Chat:
    """A conversation with a model; made by :meth:`Model.chat`.

    Each turn is rendered with the model's chat template; what the model has already read stays
    in its cache and is not computed again.
    """

    def __init__(
        self,
        start: Callable[[Sequence[Message], Sampling, Callable[[Reply], None]], Stream],
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._start = start
        self._sampling = sampling or Sampling()
        self._lock = threading.Lock()
        self._answering: Stream | None = None
        self._messages: list[Message] = [Message("system", system)] if system else []

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far; an answer in progress is not part of it."""
        with self._lock:
            return tuple(self._messages)

    def stream(self, text: str, *, sampling: Sampling | None = None) -> Stream:
        """Say ``text`` and return the answer as it is generated.

        Question and answer join the conversation together when the answer ends. A cancelled
        answer joins as far as it came; one that fails, or was cancelled before its first word,
        leaves the conversation as it was.

        Raises:
            StateError: the answer before this one is still being generated.
            ContextOverflowError (when iterating): the conversation no longer fits.
        """
        question = Message("user", text)

        def keep(reply: Reply) -> None:
            if reply.text or reply.finish_reason != "cancelled":
                with self._lock:
                    self._messages += [question, Message("assistant", reply.text)]

        with self._lock:
            if self._answering is not None and not self._answering.finished:
                raise StateError(
                    "the previous answer is still being generated",
                    hint="Read it to its end, or cancel() it and wait for its reply.",
                )
            messages = [*self._messages, question]
            self._answering = self._start(messages, sampling or self._sampling, keep)
            return self._answering

    def send(self, text: str, *, sampling: Sampling | None = None) -> Reply:
        """Say ``text`` and return the whole answer; errors as for :meth:`stream`."""
        with self.stream(text, sampling=sampling) as stream:
            return stream.reply

    def clear(self) -> None:
        """Forget the conversation, except the system prompt."""
        with self._lock:
            self._messages = [message for message in self._messages if message.role == "system"]


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return the messages in the form that templates expect."""
    return [asdict(message) for message in messages]
