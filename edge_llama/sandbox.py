"""Jinja for templates from strangers: nothing of Python is reached, and every template ends soon.

Jinja's own sandbox does the first. For the second each step pays from a budget: iterations and
macros, calls, filters, and whatever makes a value pay for the size of it, all that it contains
counted as often as it occurs. No value may be larger than MAX_SIZE, so no single step takes long,
and between two steps the clock is looked at.
"""

from __future__ import annotations

import itertools
import re
import time
from typing import TYPE_CHECKING, Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jinja2.runtime import Context

#: The largest value: characters, and items, which count for more as they take more time.
MAX_SIZE = 16_000_000
_ITEM = 512
_MAX_RANGE = MAX_SIZE // _ITEM
#: Compiling takes about 50 microseconds for each token of a template; the largest have 8,000.
_MAX_TOKENS = 20_000
#: Of this thread's processor time, so that a busy machine refuses no honest template.
_MAX_SECONDS = 1.2
_MAX_WORK = 8 * MAX_SIZE
#: A width, a count or a position that a filter or method is given.
_MAX_NUMBER = 100_000
_MAX_BITS = 4096

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
_SPLITS = {"split", "rsplit", "splitlines"}
_UNBOUNDED_METHODS = {"expandtabs", "translate", "format_map"}
#: A width or precision of more than three digits, or one that is itself an argument.
_WIDE_PERCENT = re.compile(r"%[^%a-zA-Z]*(\d{4}|\*)")
_WIDE_FORMAT = re.compile(r":[^{}]*(\d{4}|\{)")


class Budget:
    """What one rendering may cost."""

    def __init__(self) -> None:
        self._left = _MAX_WORK
        self._end = time.thread_time() + _MAX_SECONDS

    def spend(self, cost: int) -> None:
        """Pay for a step; SecurityError when there is no work or time left."""
        self._left -= cost
        if self._left < 0 or time.thread_time() > self._end:
            raise SecurityError("it takes too long")


def size_of(value: Any) -> int:
    """Return how large a value is with all it contains; SecurityError beyond MAX_SIZE."""
    total, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str | bytes):
            total += len(one)
        elif isinstance(one, list | tuple | set | frozenset | dict):
            total += _ITEM * len(one)
            if total <= MAX_SIZE:
                waiting += one
                waiting += one.values() if isinstance(one, dict) else ()
        elif isinstance(one, int) and one.bit_length() > _MAX_BITS:
            raise SecurityError("a number is too large")
        if total > MAX_SIZE:
            raise SecurityError("a value is too large")
    return total


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
        self.globals["range"] = _range

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tokens = self.lexer.tokenize(source, name, filename)
        if sum(1 for _ in itertools.islice(tokens, _MAX_TOKENS)) == _MAX_TOKENS:
            raise SecurityError(f"it has more than {_MAX_TOKENS:,} tokens")
        tree: nodes.Template = _Meter().visit(super()._parse(source, name, filename))
        return tree

    def made(self, value: Any) -> Any:
        """Return a value that was just made, paid for."""
        size = size_of(value)
        self.budget.spend(size if isinstance(value, str) else size // _ITEM)
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
                    _check(size_of(items) * max(int(times), 0))
        if operator == "%" and isinstance(left, str):
            _check_percent(left, right if isinstance(right, tuple) else (right,))
        return self.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call anything that a template calls."""
        owner = getattr(function, "__self__", None)
        if owner is self:  # made, tick or joined, which pay themselves
            return function(*args)
        if isinstance(owner, str):
            _check_method(owner, function.__name__, args)
        return self.made(super().call(context, function, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return what stands for ``str.format``, if ``value`` is that."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text, render = value.__self__, wrapped
        if value.__name__ == "format_map" or _WIDE_FORMAT.search(text):
            raise SecurityError("such a format is not possible")

        def bounded(*args: Any, **kwargs: Any) -> str:
            _check(text.count("{") * size_of((args, kwargs)))
            return render(*args, **kwargs)

        return bounded

    def _bounded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that pays. It needs a context, so it is not called while compiling."""
        passed = getattr(getattr(call, "jinja_pass_arg", None), "name", None)

        @pass_context
        def bounded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
            self.budget.spend(len(value) if isinstance(value, str) else 1)
            _check_filter(name, value, [*args, *kwargs.values()])
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


def _range(*limits: int) -> range:
    numbers = range(*limits)
    if len(numbers) > _MAX_RANGE:
        raise SecurityError(f"a range of {len(numbers):,} is too large")
    return numbers


def _check(size: int) -> None:
    if size > MAX_SIZE:
        raise SecurityError("a value is too large")


def _check_numbers(arguments: Iterable[Any]) -> None:
    for one in arguments:
        if isinstance(one, int | float) and not abs(one) <= _MAX_NUMBER:
            raise SecurityError(f"{one} is too large")


def _check_percent(text: str, arguments: tuple[Any, ...] | Mapping[str, Any]) -> None:
    if _WIDE_PERCENT.search(text):
        raise SecurityError("such a format is not possible")
    _check(text.count("%") * size_of(arguments))


def _check_replace(text: str, arguments: Iterable[Any]) -> None:
    old, new, *_ = [*(str(one) for one in arguments), "", ""]
    _check(text.count(old) * len(new))


def _check_method(text: str, name: str, arguments: tuple[Any, ...]) -> None:
    """Check a method of a text before it is called."""
    _check_numbers(arguments)
    if name in _UNBOUNDED_METHODS:
        raise SecurityError(f"{name} is not possible here")
    if name in _SPLITS:
        separator = arguments[0] if arguments else None
        _check(_ITEM * text.count(separator) if separator else len(text))
    if name == "replace":
        _check_replace(text, arguments)
    if name == "join":
        _check(len(text) * max(map(size_of, arguments), default=0))


def _check_filter(name: str, value: Any, arguments: list[Any]) -> None:
    """Check a filter whose cost is not that of its value before it is called."""
    _check_numbers(arguments if name != "default" else ())
    if name == "replace":
        _check_replace(str(value), arguments)
    elif name == "indent":
        width = max(
            (len(one) if isinstance(one, str) else int(one) for one in arguments), default=4
        )
        _check(str(value).count("\n") * width)
    elif name == "format":
        _check_percent(str(value), tuple(arguments))
    elif name == "join":
        longest = max((len(one) for one in arguments if isinstance(one, str)), default=0)
        _check(longest * (len(value) if hasattr(value, "__len__") else _MAX_NUMBER))
    elif name == "title":
        _check(_ITEM * len(str(value)))
    elif name == "sum" and not all(isinstance(one, str | int | float) for one in arguments):
        raise SecurityError("only numbers can be added up")
