"""Every error the converter raises; each one says what to do next.

::

    ConvertError
    ├── SourceError            the checkpoint's files: missing, empty, truncated, contradictory
    ├── HubError               a hub refuses, is out of reach, or sent what is damaged
    ├── ParamsError            config.json: keys missing, wrong or contradicting each other
    ├── UnsupportedError       a readable checkpoint of a kind that is not supported
    ├── TensorError            tensors missing, unexpected, of a wrong shape or with NaN/Inf
    ├── TokenizerError         the vocabulary cannot be carried over faithfully
    ├── VerificationError      the result does not say what the checkpoint says
    ├── OutputError            the result cannot be written (exists, no space, read-only)
    └── NativeLibraryError     ggml cannot be loaded
"""

from __future__ import annotations


class ConvertError(Exception):
    """Base of all converter errors.

    ``str(error)`` is one line naming the file and the cause; ``error.hint`` says what to do.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class SourceError(ConvertError):
    """The checkpoint's files cannot be read as they are."""


class HubError(ConvertError):
    """A model cannot be brought here from a hub."""


class ParamsError(ConvertError):
    """``config.json`` is incomplete or contradicts itself."""


class UnsupportedError(ConvertError):
    """The checkpoint is well-formed, but of a kind this converter does not support."""


class TensorError(ConvertError):
    """The tensors do not fit the configuration, or hold NaN or Inf."""


class TokenizerError(ConvertError):
    """The tokenizer cannot be carried over faithfully."""


class OutputError(ConvertError):
    """The result cannot be written."""


class NativeLibraryError(ConvertError):
    """ggml, which llama-cpp-python ships, cannot be loaded."""


class VerificationError(ConvertError):
    """The result does not say what the checkpoint says."""
