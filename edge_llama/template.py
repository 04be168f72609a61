"""The chat template of a model: Jinja, sandboxed and bounded, because it comes with the file."""

from __future__ import annotations

import functools
import json
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError

from .errors import TemplateError, one_line
from .sandbox import Sandbox
from .templatecosts import MAX_SIZE, Budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The largest template in use has about 30 kB; compiling takes time with the length.
MAX_TEMPLATE_CHARS = 100_000

_HINT = "The template is part of the model file; use generate with raw=True (--raw) instead."


def _raise(message: str) -> None:
    raise JinjaError(message)


def _now(form: str) -> str:
    if len(form) > 100:
        raise SecurityError("a date's format is too long")
    return datetime.now().strftime(form)  # noqa: DTZ005 - local time, as transformers does


def _to_json(sandbox: Sandbox, value: Any, indent: int | None = None, **_: Any) -> str:
    # Not Jinja's own: that one escapes HTML characters, which models were not trained on.
    if indent is not None and not 0 <= indent <= 16:
        raise SecurityError(f"indent = {indent} is not possible")
    parts = []
    for part in json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(value):
        sandbox.budget.spend(len(part))
        parts.append(part)
    return str(sandbox.made("".join(parts)))


class ChatTemplate:
    """A compiled chat template; any thread may render it, one at a time.

    Raises:
        TemplateError: it is too long, or not valid Jinja.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"the chat template has {len(source):,} characters", hint=_HINT)
        self._lock = threading.Lock()
        self._sandbox = sandbox = Sandbox()
        sandbox.filters["tojson"] = functools.partial(_to_json, sandbox)
        sandbox.globals["raise_exception"] = _raise
        sandbox.globals["strftime_now"] = _now
        try:
            self._template = sandbox.from_string(source)
        except (JinjaError, RecursionError, SyntaxError, ValueError) as error:
            raise TemplateError(
                f"the chat template is not valid: {one_line(str(error))}", hint=_HINT
            ) from error
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt text for ``messages`` (``role`` and ``content`` each).

        Raises:
            TemplateError: the template refuses the messages, fails, or exceeds its bounds.
        """
        with self._lock:
            self._sandbox.budget = Budget()
            try:
                return self._render(messages, add_generation_prompt=add_generation_prompt)
            except TemplateError:
                raise
            except Exception as error:  # a template can raise anything Python can
                raise TemplateError(
                    f"the chat template failed: {one_line(str(error))}", hint=_HINT
                ) from error

    def _render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        parts: list[str] = []
        length = 0
        for part in self._template.generate(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **self._tokens,
        ):
            length += len(part)
            if length > MAX_SIZE:
                raise TemplateError("the chat template's output is too long", hint=_HINT)
            parts.append(part)
        return "".join(parts)
