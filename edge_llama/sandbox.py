"""Jinja for templates from strangers: nothing of Python is reached, and every template ends soon.

Jinja's own sandbox does the first. For the second each step pays from a budget: iterations and
macros, calls, filters, and whatever makes a value pay for the size of it, all that it contains
counted as often as it occurs. No value may be larger than MAX_SIZE, so no single step takes long,
and between two steps the clock is looked at.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from .templatecosts import (
    ITEM,
    WIDE_FORMAT,
    Budget,
    bounded_range,
    check_filter,
    check_method,
    check_percent,
    check_size,
    size_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2.runtime import Context

#: Compiling takes about 50 microseconds for each token of a template; the largest have 8,000.
_MAX_TOKENS = 20_000

#: Those whose cost is in proportion to what they are given, or is checked before.
_FILTERS = (
    *("abs", "attr", "batch", "capitalize", "count", "d", "default", "dictsort", "e", "escape"),
    *("first", "float", "format", "groupby", "indent", "int", "items", "join", "last", "length"),
    *("list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round"),
    *("safe", "select", "selectattr", "slice", "sort", "string", "sum", "title", "trim"),
    *("truncate", "unique", "upper"),
)
#: Those that return what there was, or a number.
_FINDERS = {"attr", "count", "d", "default", "first", "last", "length", "max", "min"}


class _Namespace(Namespace):
    """A namespace that does not show what it contains, which may be itself."""

    def __repr__(self) -> str:
        return "<namespace>"


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment with the settings of transformers' apply_chat_template; one thread."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols],
            finalize=self._finalize,
        )
        self.budget = Budget()
        self.filters = {name: self._bounded(name, self.filters[name]) for name in _FILTERS}
        del self.globals["lipsum"]
        self.globals["namespace"] = _Namespace
        self.globals["range"] = bounded_range

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tokens = self.lexer.tokenize(source, name, filename)
        if sum(1 for _ in itertools.islice(tokens, _MAX_TOKENS)) == _MAX_TOKENS:
            raise SecurityError(f"it has more than {_MAX_TOKENS:,} tokens")
        tree: nodes.Template = _Meter().visit(super()._parse(source, name, filename))
        return tree

    def made(self, value: Any) -> Any:
        """Return a value that was just made, paid for."""
        size = size_of(value)
        self.budget.spend(size if isinstance(value, str) else size // ITEM)
        return value

    def tick(self, cost: int) -> str:
        """Pay for an iteration, or the call of a macro; shows nothing."""
        self.budget.spend(cost)
        return ""

    def joined(self, *parts: Any) -> str:
        """Do what ``~`` does."""
        size_of(parts)
        return str(self.made("".join(map(str, parts))))

    def _finalize(self, value: Any) -> str:
        return str(self.made(str(value)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply one of ``intercepted_binops``."""
        if operator == "**" and not (abs(left) <= 2**32 and abs(right) <= 64):
            raise SecurityError(f"{left} ** {right} is too large")
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                if hasattr(items, "__len__"):
                    check_size(size_of(items) * max(int(times), 0))
        if operator == "%" and isinstance(left, str):
            check_percent(left, right if isinstance(right, tuple) else (right,))
        return self.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call anything that a template calls."""
        owner = getattr(function, "__self__", None)
        if owner is self:  # made, tick or joined, which pay themselves
            return function(*args)
        if isinstance(owner, str):
            check_method(owner, function.__name__, args)
        return self.made(super().call(context, function, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return what stands for ``str.format``, if ``value`` is that."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text, render = value.__self__, wrapped
        if value.__name__ == "format_map" or WIDE_FORMAT.search(text):
            raise SecurityError("such a format is not possible")

        def bounded(*args: Any, **kwargs: Any) -> str:
            check_size(text.count("{") * size_of((args, kwargs)))
            return render(*args, **kwargs)

        return bounded

    def _bounded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that pays. It needs a context, so it is not called while compiling."""
        passed = getattr(getattr(call, "jinja_pass_arg", None), "name", None)

        @pass_context
        def bounded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
            self.budget.spend(len(value) if isinstance(value, str) else 1)
            check_filter(name, value, [*args, *kwargs.values()])
            if name == "join" and not isinstance(value, str):
                value = self.made(list(value))
            first = {"context": context, "environment": self, "eval_context": context.eval_ctx}
            before = [first[passed]] if passed else []
            result = call(*before, value, *args, **kwargs)
            return result if name in _FINDERS else self.made(result)

        return bounded


class _Meter(NodeTransformer):
    """Puts the budget into a template: a tick into each body, and a check around what is made."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's names
        return self._ticking(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._ticking(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._ticking(node)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._made(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._made(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._made(node) if node.ctx == "load" else self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("joined", node.nodes, node.lineno)

    def _made(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _call("made", [node], node.lineno)

    def _ticking(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        # Constant text in the body is output that nothing else pays for.
        cost = 1 + sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        tick = _call("tick", [nodes.Const(cost)], node.lineno)
        node.body.insert(0, nodes.ExprStmt(tick, lineno=node.lineno))
        return node


def _call(name: str, arguments: list[nodes.Expr], lineno: int) -> nodes.Expr:
    function = nodes.EnvironmentAttribute(name, lineno=lineno)
    return nodes.Call(function, arguments, [], None, None, lineno=lineno)
