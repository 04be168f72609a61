"""What keeps a generation to a structure; ``grammar`` has the one that follows a grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt


class Guide(Protocol):
    """Says which tokens may come next; the state of one generation. Errors end the generation."""

    @property
    def may_end(self) -> bool:
        """Whether the text so far is complete."""
        ...

    @property
    def must_end(self) -> bool:
        """Whether nothing can follow but the end."""
        ...

    def allows(self, token: int) -> bool:
        """Tell whether ``token`` may come next."""
        ...

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Set the logits (``[n_vocab]``) of what may not come next to minus infinity, in place."""
        ...

    def forced(self) -> Sequence[int]:
        """Return the tokens that must come next, if any; they are not taken in yet."""
        ...

    def push(self, tokens: Sequence[int]) -> None:
        """Take tokens in that come next."""
        ...
