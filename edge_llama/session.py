"""What is in the KV cache, and how a new prompt reuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .errors import ContextOverflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Decoder(Protocol):
    """What a session needs of a context; :class:`~edge_llama.native.NativeContext` is one."""

    n_ctx: int
    n_batch: int

    def decode(self, tokens: Sequence[int], position: int) -> bool:
        """Compute tokens; False if aborted."""
        ...

    def truncate(self, position: int) -> None:
        """Forget everything from ``position`` on."""
        ...


class Session:
    """The tokens in one context's cache; a new prompt keeps the prefix it has in common."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.tokens: list[int] = []

    @property
    def n_ctx(self) -> int:
        """Size of the context in tokens."""
        return self._decoder.n_ctx

    def prefill(self, prompt: Sequence[int], *, cancelled: Callable[[], bool]) -> int | None:
        """Bring the cache to hold exactly ``prompt``, with logits for its last token.

        Returns the number of tokens that were reused, or None if it was cancelled; what was
        computed until then is kept.

        Raises:
            ContextOverflowError: the prompt leaves no room for even one new token.
        """
        if len(prompt) >= self.n_ctx:
            raise ContextOverflowError(
                f"the prompt has {len(prompt)} tokens, the context {self.n_ctx}",
                hint=f"Shorten it by {len(prompt) - self.n_ctx + 1} tokens or more, or open the "
                "model with a larger n_ctx (--ctx).",
                needed=len(prompt) + 1,
                available=self.n_ctx,
            )
        reused = self._common_prefix(prompt)
        if reused < len(self.tokens):
            self._decoder.truncate(reused)
            del self.tokens[reused:]
        for start in range(reused, len(prompt), self._decoder.n_batch):
            chunk = prompt[start : start + self._decoder.n_batch]
            if cancelled() or not self._decoder.decode(chunk, start):
                return None
            self.tokens += chunk
        return reused

    def append(self, token: int) -> bool:
        """Compute one more token; False if it was aborted."""
        if not self._decoder.decode([token], len(self.tokens)):
            return False
        self.tokens.append(token)
        return True

    @property
    def is_full(self) -> bool:
        """Whether no further token fits."""
        return len(self.tokens) >= self.n_ctx

    def reset(self) -> None:
        """Forget everything, after an error left the cache in doubt."""
        self.tokens.clear()
        self._decoder.truncate(0)

    def _common_prefix(self, prompt: Sequence[int]) -> int:
        # The last token is always computed anew: its logits are needed.
        limit = min(len(prompt) - 1, len(self.tokens))
        for i in range(limit):
            if prompt[i] != self.tokens[i]:
                return i
        return limit
