"""The chat template of a model: Jinja, sandboxed and bounded, because it comes with the file."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Bounds: the largest template in use has about 30 kB; output is held to what a context can hold.
MAX_TEMPLATE_CHARS = 1_000_000
MAX_OUTPUT_CHARS = 16_000_000

_HINT = "The template is part of the model file; use generate with raw=True (--raw) instead."


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also refuses to multiply its way into all memory."""

    intercepted_binops = frozenset({"*", "**", "+"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (abs(left) <= 2**32 and abs(right) <= 64):
            raise SecurityError(f"{left} ** {right} is too large")
        if operator == "*":
            text, times = (left, right) if hasattr(left, "__len__") else (right, left)
            if hasattr(text, "__len__") and len(text) * max(int(times), 0) > MAX_OUTPUT_CHARS:
                raise SecurityError("a repeated text is too long")
        result = super().call_binop(context, operator, left, right)
        if hasattr(result, "__len__") and len(result) > MAX_OUTPUT_CHARS:
            raise SecurityError("a text is too long")
        return result


def _raise(message: str) -> None:
    raise JinjaError(message)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    # Not Jinja's own: that one escapes HTML characters, which models were not trained on.
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """A compiled chat template.

    Raises:
        TemplateError: it is too long, or not valid Jinja.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"the chat template has {len(source):,} characters", hint=_HINT)
        # The settings are those of transformers' apply_chat_template.
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # noqa: DTZ005 - local time, as transformers does
        try:
            self._template = environment.from_string(source)
        except (JinjaError, RecursionError, SyntaxError, ValueError) as error:
            raise TemplateError(f"the chat template is not valid: {error}", hint=_HINT) from error
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt text for ``messages`` (``role`` and ``content`` each).

        Raises:
            TemplateError: the template refuses the messages, fails, or exceeds its bounds.
        """
        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                **self._tokens,
            ):
                length += len(part)
                if length > MAX_OUTPUT_CHARS:
                    raise TemplateError("the chat template's output is too long", hint=_HINT)
                parts.append(part)
        except TemplateError:
            raise
        except Exception as error:  # a template can raise anything Python can
            raise TemplateError(f"the chat template failed: {error}", hint=_HINT) from error
        return "".join(parts)
