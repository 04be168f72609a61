"""What happens when a conversation outgrows the context: which of its tokens may be dropped.

The policies (:data:`~edge_llama.config.Overflow`) differ only in what they allow to be dropped,
and are turned into a :class:`Prompt` here; nothing further down knows their names. How much is
dropped depends on the number of tokens and the context alone, never on what happens to be cached.
"""

from __future__ import annotations

import bisect
import sys
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from .cache import NO_GAP, Gap, common_prefix
from .errors import ContextOverflowError, InvalidOptionError, TemplateError
from .messages import Message, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .config import Overflow
    from .sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What to read before the first token is generated.

    Attributes:
        tokens: all of it, also when it is longer than the context.
        find_droppable: finds out ``droppable``, once it is needed.
        dropped_turns: turns of the conversation that are not part of ``tokens`` any more.
    """

    tokens: list[int]
    find_droppable: Callable[[], range] = lambda: range(0)
    dropped_turns: int = 0

    @cached_property
    def droppable(self) -> range:
        """Which tokens of prompt and answer may be dropped when the context is full."""
        return self.find_droppable()

    def gap(self, total: int, n_ctx: int) -> Gap | None:
        """Return what to drop so that ``total`` tokens fit into ``n_ctx``; None if they cannot.

        It grows by half of what may not stay anyway, so that it rarely changes.
        """
        excess = total - n_ctx
        if excess <= 0:
            return NO_GAP
        start, stop = self.droppable.start, self.droppable.stop
        step = max(1, (n_ctx - start) // 2)
        length = min(-(-excess // step) * step, stop - start, total - 1 - start)
        return Gap(start, length) if length >= excess else None


class Renderer(Protocol):
    """Writes messages down with the model's template."""

    def __call__(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Return the tokens; TemplateError if the template refuses the messages."""
        ...


class ContextPolicy:
    """How prompts are made to fit into ``n_ctx`` tokens: what each policy allows to be dropped."""

    def __init__(self, overflow: Overflow, n_ctx: int) -> None:
        self._overflow, self._n_ctx = overflow, n_ctx

    def check(self, prompt: Prompt) -> Prompt:
        """Return ``prompt`` if there is one, and it leaves room for at least one token.

        Raises:
            InvalidOptionError: there are no tokens.
            ContextOverflowError: it does not fit, not even with all dropped that may be.
        """
        count, n_ctx = len(prompt.tokens), self._n_ctx
        if not count:
            raise InvalidOptionError("the prompt is empty", hint="Give at least one token.")
        if prompt.gap(count + 1, n_ctx) is None:
            droppable = prompt.droppable
            needed = count + 1 - max(0, min(droppable.stop, count) - droppable.start)
            what = "what must stay of the prompt has" if len(droppable) else "the prompt has"
            raise _too_long(what, needed, n_ctx)
        return prompt

    def check_least(self, count: int) -> None:
        """Raise ContextOverflowError if ``count`` tokens, the least that must stay, do not fit."""
        if count >= self._n_ctx:
            raise _too_long("what must stay of the prompt has at least", count + 1, self._n_ctx)

    @property
    def keeps_texts(self) -> bool:
        """Whether nothing of a text that is to be continued may be dropped."""
        return self._overflow != "shift"

    def must_stay(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages of a conversation that are never dropped."""
        if self._overflow == "refuse":
            return messages
        return [*turns(messages)[0], messages[-1]]

    def text(self, tokens: list[int], sampling: Sampling, *, keep: int) -> Prompt:
        """Return the prompt of a text that is to be continued; ``keep`` tokens always stay.

        With "shift" the oldest go first; those of the answer only if max_tokens asks for so many.
        """
        if self.keeps_texts:
            return self.check(Prompt(tokens=tokens))
        end = len(tokens) if sampling.max_tokens is None else sys.maxsize
        droppable = range(min(keep, end), end)
        return self.check(Prompt(tokens=tokens, find_droppable=lambda: droppable))

    def chat(
        self,
        messages: Sequence[Message],
        render: Renderer,
        sampling: Sampling,
        *,
        dropped_turns: int = 0,
    ) -> Prompt:
        """Return the prompt of a conversation whose last message is the question.

        What comes before the first question (the system prompt) and the last question always
        stay. ``dropped_turns`` is how many were dropped before, and the least that are now.
        """
        if self._overflow == "drop-turns":
            return self.check(self._without_turns(messages, render, sampling, dropped_turns))
        tokens = render(messages)
        if self._overflow == "refuse":
            return self.check(Prompt(tokens=tokens))
        return self.check(
            Prompt(tokens=tokens, find_droppable=lambda: _between(messages, tokens, render))
        )

    def _without_turns(
        self, messages: Sequence[Message], render: Renderer, sampling: Sampling, dropped: int
    ) -> Prompt:
        """Drop turns when prompt and answer do not fit: enough that half the context is free.

        The answer is counted with max_tokens, at most a quarter of the context.
        """
        n_ctx = self._n_ctx
        beginning, rest = turns(messages)
        last = len(rest) - 1

        def tokens_without(count: int) -> list[int]:
            return render([*beginning, *chain.from_iterable(rest[count:])])

        dropped = min(dropped, last)
        tokens = tokens_without(dropped)
        room = min(sampling.max_tokens or n_ctx, n_ctx // 4)
        if len(tokens) + room > n_ctx and dropped < last:
            counts = range(dropped + 1, last)  # the last one is what remains if none is enough
            dropped += 1 + bisect.bisect_left(
                counts, x=True, key=lambda count: len(tokens_without(count)) <= n_ctx // 2
            )
            tokens = tokens_without(dropped)
        return Prompt(tokens=tokens, dropped_turns=dropped)


def _too_long(what: str, needed: int, n_ctx: int) -> ContextOverflowError:
    return ContextOverflowError(
        f"{what} {needed - 1} tokens, the context {n_ctx}",
        hint=f"Shorten it by {needed - n_ctx} tokens or more, or open the model with a larger "
        "n_ctx (--ctx).",
        needed=needed,
        available=n_ctx,
    )


def _between(messages: Sequence[Message], tokens: list[int], render: Renderer) -> range:
    """Return where the tokens lie that are neither system prompt nor last question.

    Templates write both in many ways, so it is found out by writing down other conversations.
    """
    beginning, rest = turns(messages)
    if len(rest) < 2:
        return range(0)
    earlier, question = messages[:-1], messages[-1]
    try:
        first = common_prefix(tokens, render([*beginning, _another(rest[0][0])]))
        last = common_prefix(tokens, render([*earlier, _another(question)]))
        stop = common_prefix(tokens, render(earlier, add_generation_prompt=False))
    except TemplateError:  # it insists on some order of roles
        return range(0)
    # What stands between the end of a turn and the text of the next question goes with it.
    header = tokens[stop:last]
    start = first - len(header) if tokens[:first][-len(header) :] == header else first
    return range(start, max(start, stop))


def _another(question: Message) -> Message:
    """Return a question that differs from the first character on."""
    return Message("user", "!" if question.content.startswith("?") else "?")
