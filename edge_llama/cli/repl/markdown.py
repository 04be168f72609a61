"""Markdown as lines for a terminal, block by block, so that finished blocks are drawn once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from markdown_it import MarkdownIt
from rich.markdown import CodeBlock, Heading, Markdown
from rich.syntax import Syntax
from rich.text import Text

if TYPE_CHECKING:
    from markdown_it.token import Token
    from rich.console import Console, ConsoleOptions, RenderResult

#: HTML is text here, and nothing that was written is left out: no definitions, no images.
_PARSER = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["strikethrough", "table"])
    .disable(["reference", "image"])
)
#: Quotes and lists in each other beyond this are shown as they are: the parser drops what is in
#: more than 20, and there would be no width left for it.
_DEEPEST = 12
_CODE = re.compile(r"\x1b\[[0-9;]*m")
#: What rich pads lines with: spaces, some of them in colour.
_PADDING = re.compile(r"(?: |\x1b\[[0-9;]*m)+$")
_RESET = "\x1b[0m"


class _Code(CodeBlock):
    """Code in the terminal's own colours, without a background of ours."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(
            code,
            self.lexer_name,
            theme="ansi_dark",
            background_color="default",
            word_wrap=True,
            padding=(0, 2),
        )


class _Heading(Heading):
    """A heading on the left, without a box."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text.copy()
        text.justify = "left"
        yield text


class _Markdown(Markdown):
    # Links show where they lead: behind a hyperlink a model could hide another address.
    elements = Markdown.elements | {
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
    }


class Block(NamedTuple):
    """A top-level block: the number of its first line, its source, and what is drawn of it."""

    start: int
    source: str
    content: Markdown | Text


def split(text: str) -> list[Block]:
    """Return the top-level blocks of a text, of which the last may go on."""
    lines = text.split("\n")
    tokens = _PARSER.parse(text)
    starts = [i for i, token in enumerate(tokens) if token.level == 0 and token.nesting >= 0]
    blocks: list[Block] = []
    if not tokens:
        return blocks
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        first, last = tokens[start].map or (0, 0)
        source = "\n".join(lines[first:last])
        blocks.append(Block(first, source, _content(tokens[start:end], source)))
    return blocks


def _content(tokens: list[Token], source: str) -> Markdown | Text:
    if max(token.level for token in tokens) > _DEEPEST:
        return Text(source)
    content = _Markdown("", hyperlinks=False)
    content.parsed = tokens
    for token in tokens:
        for child in token.children or ():
            if child.type == "softbreak":  # models break lines where they mean it
                child.type = "hardbreak"
    return content


def render(block: Block, console: Console, width: int) -> list[str]:
    """Return a block as lines with escape sequences, none longer than ``width`` cells."""
    try:
        text = _capture(block.content, console, width)
    except Exception:  # noqa: BLE001 - whatever a model wrote, it is shown
        text = _capture(Text(block.source), console, width)
    lines = [_without_padding(line) for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        del lines[0]
    return lines


def _capture(content: Markdown | Text, console: Console, width: int) -> str:
    with console.capture() as capture:
        console.print(content, width=width)
    return capture.get()


def _without_padding(line: str) -> str:
    text = _PADDING.sub("", line)
    return text + _RESET if _CODE.search(text) else text
