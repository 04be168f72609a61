"""What keeps a hostile or careless grammar from costing more than a moment; see the tests."""

from __future__ import annotations

from ..errors import GrammarError, one_line

#: Characters of a regular expression, a GBNF or a Lark text; bytes of a JSON Schema.
MAX_TEXT = 1_000_000
#: Places in one regular expression, the least repeats unrolled (regular.Regular.size).
MAX_SIZE = 50_000
#: Nested groups, and nested schemas: parsers and llguidance are recursive in them.
MAX_DEPTH = 64
#: Rules of a GBNF or Lark grammar: llguidance takes 3.4 KB of stack for each that leads to
#: another, and is compiled in a thread with a stack of 32 MiB.
MAX_RULES = 2000
#: Leaves of the trees of a GBNF text, and holes of a template: each may become a lexeme.
MAX_LEAVES = 10_000
MAX_HOLES = 200
#: The longest that the shortest text of a grammar may be: nothing generates so much.
MAX_SHORTEST = 100_000
#: The highest count of a repeat.
MAX_REPEAT = 1_000_000


def require_text(text: str, what: str) -> None:
    """Refuse a text that UTF-8 cannot say."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GrammarError(
            f"{what} holds half of a surrogate pair at character {error.start + 1}",
            hint="Use text that UTF-8 can say.",
        ) from None


def too_large(what: str, limit: str, path: str | None = None) -> GrammarError:
    """Return the error for a grammar beyond one of the bounds above."""
    return GrammarError(
        f"{one_line(what)} is too large: at most {limit}",
        hint="Use a smaller grammar.",
        path=path,
    )
