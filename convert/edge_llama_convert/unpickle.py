"""Read the pickle inside a PyTorch checkpoint without ever running what it says.

``pickle`` is a small stack machine whose programs may call anything. This is another machine for
the same programs (opcodes: the standard library's ``pickletools``, which decodes them and runs
nothing): it knows only the opcodes that describe tensors in containers, and every class or
function it knows by name is answered with plain data of our own. Nothing is imported, looked up
or called, whatever the file says; all else is refused by name.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import SourceError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Bounds; the pickle of the largest LLaMA has about 50,000 opcodes in 200 KB.
MAX_PICKLE_BYTES = 16 * 1024 * 1024
MAX_OPCODES = 1_000_000

#: dtype of the elements by storage class (torch/storage.py); None: told elsewhere, or unsupported.
STORAGE_DTYPES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}

_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_KNOWN = {_ORDERED_DICT, _TENSOR, _PARAMETER} | {f"torch.{name}" for name in STORAGE_DTYPES}

#: How torch stores dtypes that have no storage class, like fp8, and int8 with its scales.
_NEWER = {"torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_qtensor"}

_HINT = "Use the *.safetensors files of the checkpoint, or get it from a source you trust."
_DAMAGED = "The file is damaged; fetch it again."


@dataclass(frozen=True, slots=True)
class Named:
    """Stands for a class or function that the pickle refers to."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Stands for a storage: the archive's member ``data/<key>`` of ``count`` elements."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Stands for a tensor: a view of a storage; ``offset`` and ``stride`` in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


_MARK = Named("mark")


def unpickle(data: bytes, path: Path) -> Any:
    """Return the object that the pickle ``data`` describes; ``path`` is for messages.

    It is made of plain containers, :class:`StoredTensor` and :class:`Storage`.

    Raises:
        UnsupportedError: it refers to a class or function, or uses an opcode, that no plain
            checkpoint of tensors needs.
        SourceError: it is damaged, truncated or absurdly large.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise SourceError(f"{path}: a pickle of {len(data):,} bytes", hint=_DAMAGED)
    machine = _Machine(path)
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if steps > MAX_OPCODES:
                raise SourceError(f"{path}: a pickle of over {steps - 1:,} steps", hint=_DAMAGED)
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        # Whatever a program can do wrong here ends in one of these: an empty stack, no such memo.
        raise SourceError(f"{path}: the pickle is damaged ({error})", hint=_DAMAGED) from error
    raise SourceError(f"{path}: the pickle has no end", hint=_DAMAGED)


class _Machine:
    """Stack and memo of one run; the methods are the opcodes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self.memo: dict[int, Any] = {}  # a dict: an absurd index costs nothing

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _LITERALS:
            self._stack.append(argument)
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        elif opcode not in {"PROTO", "FRAME"}:
            detail = f" {argument[:80]!r}" if isinstance(argument, str) else ""
            self.refuse(f"uses the opcode {opcode}{detail}")

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is needed")
        return value

    def refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(
            f"{self._path}: the pickle {what}; refused, nothing was run", hint=_HINT
        )

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def top(self, kind: type) -> Any:
        value = self._stack[-1]
        if type(value) is not kind:
            self.refuse(f"treats a {type(value).__name__} as a {kind.__name__}")
        return value

    def extend(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Only these: the hash of a deeply nested tuple would recurse without bound.
            if type(key) not in {str, int}:
                self.refuse(f"has a dictionary key of type {type(key).__name__}")
            target[key] = value

    def name(self, name: str) -> None:
        if name not in _KNOWN:
            if name in _NEWER:
                raise UnsupportedError(
                    f"{self._path}: tensors of a dtype like fp8 or int8 ({name})",
                    hint="Convert from the unquantised checkpoint, in 16 or 32 bits.",
                )
            self.refuse(f"refers to {name[:80]}")
        self.push(Named(name))

    def stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            self.refuse("makes up the name of a class")
        self.name(f"{module}.{name}")

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Named or type(arguments) is not tuple:
            self.refuse(f"calls a {type(function).__name__}")
        if function.name == _ORDERED_DICT and not arguments:
            self.push({})
        elif function.name == _TENSOR and len(arguments) in {6, 7}:
            self.push(self.tensor(*arguments[:4]))
        elif function.name == _PARAMETER and type(arguments[0]) is StoredTensor:
            self.push(arguments[0])
        else:
            self.refuse(f"calls {function.name} with unexpected arguments")

    def tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> StoredTensor:
        numbers = [offset]
        if type(shape) is tuple and type(stride) is tuple and len(shape) == len(stride) <= 8:
            numbers += [*shape, *stride]
        else:
            numbers = [-1]
        if type(storage) is not Storage or not all(map(_is_size, numbers)):
            self.refuse("describes an impossible tensor")
        return StoredTensor(storage, offset, shape, stride)

    def persistent(self, _: Any) -> None:
        identity = self.pop()
        if (
            type(identity) is not tuple
            or len(identity) != 5
            or identity[0] != "storage"
            or type(identity[1]) is not Named
            or not identity[1].name.startswith("torch.")
            or identity[1].name.rpartition(".")[2] not in STORAGE_DTYPES
            or type(identity[2]) is not str
            or not _is_size(identity[4])
        ):
            self.refuse("has a persistent id that is no storage")
        dtype = STORAGE_DTYPES[identity[1].name.rpartition(".")[2]]
        self.push(Storage(identity[2], dtype, identity[4]))

    def build(self, _: Any) -> None:
        # torch hangs '_metadata' on a state dict this way; it is not needed, so not set.
        self.pop()
        self.top(dict)

    def memoize(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self._stack[-1]


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


#: Opcodes whose decoded argument is the value.
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE"),
}

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(value=True),
    "NEWFALSE": lambda m, _: m.push(value=False),
    "MARK": lambda m, _: m.push(_MARK),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.push((m.pop(),)),
    "TUPLE2": lambda m, _: m.push((m.pop(), m.pop())[::-1]),
    "TUPLE3": lambda m, _: m.push((m.pop(), m.pop(), m.pop())[::-1]),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "GLOBAL": lambda m, argument: m.name(argument.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
    "BINPUT": _Machine.memoize,
    "LONG_BINPUT": _Machine.memoize,
    "MEMOIZE": _Machine.memoize,
    "BINGET": lambda m, index: m.push(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.push(m.memo[index]),
}
