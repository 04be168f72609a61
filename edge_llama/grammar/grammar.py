"""The one public type: what an answer must look like, in any of its notations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import GrammarError, IncompleteError, InvalidOutputError
from ..rules import with_options
from .bounds import require_text
from .lark import LarkText

if TYPE_CHECKING:
    from pathlib import Path

    from .lark import TokenNames
    from .source import Source

#: What models write between the end of their reasoning and JSON.
_SPACE = r"/[ \n]{1,2}/"


@dataclass(frozen=True)
class Grammar:
    """What a generated text must look like; immutable, hashable, picklable, shared by threads.

    Make one with :meth:`json_schema`, :meth:`json`, :meth:`regex`, :meth:`choice`, :meth:`gbnf`,
    :meth:`lark` or :meth:`template`. Each checks what it is given and raises GrammarError, which
    names the place, for what is malformed or would not be enforced.
    """

    source: Source
    marker: str | None = None

    @classmethod
    def json_schema(cls, schema: dict[str, Any] | str | Path | type, **options: Any) -> Grammar:
        """Return a grammar for JSON that fits ``schema``, and whose value is checked by it.

        ``schema`` is a dict, JSON text, a file, OpenAI's ``response_format``, or a type: a
        pydantic model, a dataclass or a TypedDict, whose object :meth:`parse` then returns.
        ``options`` are those of :class:`~edge_llama.grammar.JsonOptions`.
        """
        from .schema import JsonOptions, SchemaSource

        return cls(SchemaSource.of(schema, with_options(JsonOptions(), options)))

    @classmethod
    def json(cls, **options: Any) -> Grammar:
        """Return a grammar for any JSON."""
        return cls.json_schema({}, **options)

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """Return a grammar for texts that ``pattern`` matches whole."""
        from .plain import RegexSource

        return cls(RegexSource(pattern))

    @classmethod
    def choice(cls, *texts: str) -> Grammar:
        """Return a grammar for one of ``texts``."""
        from .plain import ChoiceSource

        return cls(ChoiceSource(texts))

    @classmethod
    def gbnf(cls, text: str, root: str = "root") -> Grammar:
        """Return a grammar in llama.cpp's notation, beginning at the rule ``root``."""
        from .gbnf import GbnfSource

        return cls(GbnfSource(text, root))

    @classmethod
    def lark(cls, text: str) -> Grammar:
        """Return a grammar in llguidance's variant of Lark, beginning at the rule ``start``."""
        from .larktext import LarkSource

        return cls(LarkSource(text))

    @classmethod
    def template(cls, text: str, **holes: Grammar) -> Grammar:
        """Return a grammar for ``text`` whose ``{name}`` are filled by ``holes``."""
        from .template import TemplateSource

        return cls(TemplateSource.of(text, holes))

    def after(self, marker: str) -> Grammar:
        """Return a grammar for free text up to the first ``marker``, then this grammar."""
        if self.marker is not None or not marker:
            raise GrammarError(
                f"no structure can begin after {marker!r}: "
                + ("the marker is empty" if not marker else f"it begins after {self.marker!r}"),
                hint='Give one marker, as in Grammar.json().after("</think>").',
            )
        require_text(marker, "the marker")
        return Grammar(self.source, marker)

    def lowered(self, names: TokenNames, *, forcing: bool = True) -> str:
        """Return the grammar as llguidance reads it, without the free text before the marker."""
        lark = LarkText(names)
        start = self.source.lower(lark)
        if self.marker is not None and self.source.spaced:
            start = lark.rule(f"{lark.terminal(_SPACE)}? {start}")
        return lark.serialize(start, forcing=forcing)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """JSON paths of keywords that only :meth:`parse` checks (``unsupported="check"``)."""
        found: tuple[str, ...] = getattr(self.source, "unchecked", ())
        return found

    def parse(self, text: str) -> Any:
        """Return the value that ``text`` stands for.

        Raises:
            IncompleteError: the text ends inside the structure.
            InvalidOutputError: the text is not what this grammar asks for.
        """
        if self.marker is None:
            return self.source.value(text)
        _, found, rest = text.partition(self.marker)
        if not found:
            raise IncompleteError(
                f"the text ends before {self.marker!r}",
                hint="Allow more tokens (max_tokens).",
                text=text,
            )
        try:
            return self.source.value(rest.lstrip(" \n") if self.source.spaced else rest)
        except (IncompleteError, InvalidOutputError) as error:
            error.text = text
            raise
