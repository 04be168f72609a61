"""Convert Hugging Face LLaMA checkpoints to quantised GGUF, in one pass and in little memory.

    from edge_llama_convert import Recipe, convert, plan

    work = plan("weights/Llama-3.2-1B", recipe=Recipe.Q4_K_M)  # headers only
    convert(work, "models/llama-3.2-1b-q4_k_m.gguf")

Every error is a :class:`ConvertError` with a ``hint``; see :mod:`edge_llama_convert.errors`.
"""

from .errors import (
    ConvertError,
    HubError,
    NativeLibraryError,
    OutputError,
    ParamsError,
    SourceError,
    TensorError,
    TokenizerError,
    UnsupportedError,
    VerificationError,
)
from .hub import Fetching
from .hubsource import fetch
from .overrides import TypeOverrides
from .pipeline import Progress, Result, convert, plan
from .plans import Plan, TypeTotal
from .recipe import Recipe
from .split import SplitLimit

__all__ = [
    "ConvertError",
    "Fetching",
    "HubError",
    "NativeLibraryError",
    "OutputError",
    "ParamsError",
    "Plan",
    "Progress",
    "Recipe",
    "Result",
    "SourceError",
    "SplitLimit",
    "TensorError",
    "TokenizerError",
    "TypeOverrides",
    "TypeTotal",
    "UnsupportedError",
    "VerificationError",
    "convert",
    "fetch",
    "plan",
]
