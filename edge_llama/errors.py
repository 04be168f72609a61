"""Every error the runtime raises; each one says what to do next.

::

    EdgeLlamaError
    ├── InvalidOptionError       an option's name or value (also a ValueError)
    ├── ModelNotFoundError       no model at that path or of that name
    ├── ModelFileError           the file is no GGUF, truncated, damaged, or refused by llama.cpp
    ├── LoadCancelledError       the progress callback ended the load
    ├── NativeLibraryError       llama.cpp is missing or of a version that does not fit
    ├── DeviceError              the GPU backend asked for is not compiled in, or has no device
    ├── OutOfMemoryError         model or context do not fit into memory, or into the budget
    ├── ContextOverflowError     a request is larger than the context
    ├── TemplateError            the chat template is missing, broken or exceeds its bounds
    ├── GrammarError             a grammar is malformed, unsupported, unsatisfiable or too large
    ├── IncompleteError          a text ended inside the structure that its grammar asks for
    ├── InvalidOutputError       a text is not what its grammar asks for
    ├── BackendError             llama.cpp failed while computing
    ├── HistoryError             conversations or personas cannot be read, written or found
    ├── WorkerDied               the child process of an isolated model ended (isolate=True)
    └── StateError               used after close, or in a state that does not allow it
"""

from __future__ import annotations


class EdgeLlamaError(Exception):
    """Base of all runtime errors.

    ``str(error)`` is one line naming the cause; ``error.hint`` says what to do.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidOptionError(EdgeLlamaError, ValueError):
    """An option has an unknown name or a value out of range."""


class ModelNotFoundError(EdgeLlamaError):
    """No model file is where the name points."""


class ModelFileError(EdgeLlamaError):
    """The model file is not a GGUF, is damaged, or llama.cpp refuses it."""


class LoadCancelledError(EdgeLlamaError):
    """The callback that is told of the progress ended the load; nothing stays in memory.

    ``__cause__`` is the callback's own exception, if it raised one.
    """


class NativeLibraryError(EdgeLlamaError):
    """llama.cpp cannot be loaded, or is of a version that does not fit."""


class DeviceError(EdgeLlamaError):
    """The device asked for cannot be had: its backend is not compiled in, or it has none."""


class OutOfMemoryError(EdgeLlamaError):
    """The model and its context need more memory than they were given, or than there is."""


class ContextOverflowError(EdgeLlamaError):
    """The prompt does not fit into the context.

    ``needed`` and ``available`` are in tokens.
    """

    def __init__(self, message: str, *, hint: str, needed: int, available: int) -> None:
        super().__init__(message, hint=hint)
        self.needed = needed
        self.available = available


class TemplateError(EdgeLlamaError):
    """The chat template is missing, has an error, or exceeds its bounds."""


class GrammarError(EdgeLlamaError, ValueError):
    """A grammar is malformed, asks for what is not enforced, cannot be satisfied or is too large.

    ``path`` is where: a JSON path (``$.properties.email.format``), a line, or None.
    """

    def __init__(self, message: str, *, hint: str, path: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class IncompleteError(EdgeLlamaError):
    """A text ended inside the structure that its grammar asks for; ``text`` is what there is."""

    def __init__(self, message: str, *, hint: str, text: str) -> None:
        super().__init__(message, hint=hint)
        self.text = text


class InvalidOutputError(EdgeLlamaError):
    """A text is complete, but not what its grammar asks for; ``text`` is that text.

    ``path`` is the JSON path of the value at fault, where there is one.
    """

    def __init__(self, message: str, *, hint: str, text: str, path: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.text = text
        self.path = path


class BackendError(EdgeLlamaError):
    """llama.cpp reported a failure while computing."""


class HistoryError(EdgeLlamaError):
    """What a user keeps, conversations or personas, cannot be read, written or found."""


class WorkerDied(EdgeLlamaError):  # noqa: N818 - it tells what happened, not what was wrong
    """The child process of an isolated model ended; the next call starts another.

    ``exit_code`` is what the process returned, a negative signal number on POSIX, or None if it
    never began. ``log`` are the last lines that it, or llama.cpp in it, wrote.
    """

    def __init__(
        self, message: str, *, hint: str, exit_code: int | None, log: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.log = log


class StateError(EdgeLlamaError):
    """An object was used after it was closed, or while it was busy."""


def one_line(text: str, limit: int = 300) -> str:
    """Return ``text`` as part of a message: no line ends or control characters, not too long.

    What comes from a file may be anything, also an attack on the terminal that shows it.
    """
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
