"""The options that keep an answer to a structure, and the grammar that they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidOptionError

if TYPE_CHECKING:
    from ..grammar import Grammar

_PANEL = "Structure"
#: No grammar that compiles is as large.
_MAX_BYTES = 16 << 20

SchemaOption = Annotated[
    str | None,
    typer.Option(
        "--json-schema",
        metavar="FILE|JSON",
        help="Answer in JSON that fits this schema; {} is any JSON.",
        rich_help_panel=_PANEL,
    ),
]
RegexOption = Annotated[
    str | None,
    typer.Option(
        "--regex", help="Answer with text that this matches whole.", rich_help_panel=_PANEL
    ),
]
ChoiceOption = Annotated[
    list[str],
    typer.Option(
        "--choice",
        help="Answer with one of these; give it several times.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
GrammarOption = Annotated[
    Path | None,
    typer.Option(
        "--grammar",
        metavar="FILE",
        help="Answer with what a grammar allows: GBNF as of llama.cpp, or Lark if it is a .lark.",
        rich_help_panel=_PANEL,
    ),
]
AfterOption = Annotated[
    str | None,
    typer.Option(
        "--after",
        metavar="TEXT",
        help="The structure begins after this text, e.g. </think>; what is before it is free.",
        rich_help_panel=_PANEL,
    ),
]


def read_grammar(
    schema: str | None,
    regex: str | None,
    choices: list[str],
    file: Path | None,
    after: str | None,
) -> Grammar | None:
    """Return the grammar that the options ask for, if any.

    Raises:
        InvalidOptionError: more than one kind was given.
        GrammarError: it is not valid.
        OSError: the file cannot be read.
    """
    given = [
        name
        for name, value in (
            ("--json-schema", schema),
            ("--regex", regex),
            ("--choice", choices or None),
            ("--grammar", file),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise InvalidOptionError(f"{' and '.join(given)} exclude each other", hint="Give one.")
    if not given:
        if after is not None:
            raise InvalidOptionError("--after alone does nothing", hint="Add --json-schema.")
        return None
    from ..grammar import Grammar

    if schema is not None:
        is_json = schema.lstrip().startswith("{")
        grammar = Grammar.json_schema(schema if is_json else Path(schema))
    elif regex is not None:
        grammar = Grammar.regex(regex)
    elif file is not None:
        text = _read(file)
        grammar = Grammar.lark(text) if file.suffix == ".lark" else Grammar.gbnf(text)
    else:
        grammar = Grammar.choice(*choices)
    return grammar if after is None else grammar.after(after)


def _read(file: Path) -> str:
    """Return the text of a grammar file.

    Raises:
        InvalidOptionError: it is too large, or no text.
    """
    if file.stat().st_size > _MAX_BYTES:
        raise InvalidOptionError(
            f"{file}: more than {_MAX_BYTES:,} bytes", hint="Give a file that holds a grammar."
        )
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidOptionError(
            f"{file}: not UTF-8 at byte {error.start}", hint="Give a text file with a grammar."
        ) from error
