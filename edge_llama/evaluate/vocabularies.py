"""Two models can be compared token by token only if their tokens mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InvalidOptionError, one_line

if TYPE_CHECKING:
    from .teacher import Teacher

_HINT = "Compare models of one family: the same checkpoint in other types, or a fine-tune of it."


def check_same_vocabulary(this: Teacher, base: Teacher) -> None:
    """Raise InvalidOptionError unless both have the same tokens, in the same order."""
    one, other = this.native, base.native
    problem = ""
    if one.n_vocab != other.n_vocab:
        problem = f"{one.n_vocab:,} tokens against {other.n_vocab:,}"
    elif (one.adds_bos, one.bos) != (other.adds_bos, other.bos):
        problem = "only one of them begins with BOS, or it is another token"
    else:
        for token in range(one.n_vocab):
            if one.spelling(token) != other.spelling(token):
                texts = f"{one.text(token)!r} in one and {other.text(token)!r} in the other"
                problem = f"token {token} is {texts}"
                break
    if problem:
        raise InvalidOptionError(
            f"{this.path} and {base.path} have different vocabularies: {one_line(problem)}",
            hint=_HINT,
        )
