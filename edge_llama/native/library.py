"""Load llama.cpp once, silence it, and check that it is the version this code knows."""

from __future__ import annotations

import ctypes
import functools
import logging
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import NativeLibraryError, one_line
from ..forks import Home
from ..install import reinstall_command
from .bindings import load_bindings
from .buffers import record

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("edge_llama.native")

logger.addHandler(logging.NullHandler())  # silent unless the host program configures logging

#: enum ggml_log_level -> logging level. llama.cpp's "info" is a load of detail for every model.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}

#: The last warnings and errors of llama.cpp, for messages of exceptions.
_recent: deque[str] = deque(maxlen=40)

#: What this code relies on: patch releases of llama-cpp-python have renamed such fields.
_FIELDS = {
    "llama_model_params": (
        "devices",
        "n_gpu_layers",
        "load_mode",
        "progress_callback",
        "use_extra_bufts",
    ),
    "llama_context_params": (
        "n_ctx",
        "n_batch",
        "n_ubatch",
        "n_seq_max",
        "n_outputs_max",
        "kv_unified",
        "n_threads",
        "n_threads_batch",
        "flash_attn_type",
        "type_k",
        "type_v",
        "no_perf",
        "rope_scaling_type",
        "rope_freq_base",
        "rope_freq_scale",
        "yarn_orig_ctx",
        "yarn_beta_fast",
        "yarn_beta_slow",
    ),
}
_FUNCTIONS = (
    "llama_decode",
    "llama_get_logits",
    "llama_get_logits_ith",
    "llama_get_memory",
    "llama_init_from_model",
    "llama_memory_can_shift",
    "llama_memory_clear",
    "llama_memory_seq_add",
    "llama_memory_seq_cp",
    "llama_memory_seq_pos_max",
    "llama_memory_seq_pos_min",
    "llama_memory_seq_rm",
    "llama_model_load_from_file",
    "llama_numa_init",
    "llama_print_system_info",
    "llama_sampler_clone",
    "llama_sampler_init_dry",
    "llama_sampler_init_logit_bias",
    "llama_sampler_init_mirostat",
    "llama_sampler_init_mirostat_v2",
    "llama_sampler_init_penalties",
    "llama_sampler_init_temp_ext",
    "llama_sampler_init_top_n_sigma",
    "llama_sampler_init_typical",
    "llama_sampler_init_xtc",
    "llama_sampler_sample",
    "llama_set_abort_callback",
    "llama_state_seq_get_data",
    "llama_state_seq_get_size",
    "llama_state_seq_set_data",
    "llama_token_to_piece",
    "llama_tokenize",
    "llama_vocab_get_suppress_tokens",
    "llama_vocab_get_attr",
    "llama_vocab_get_text",
    "llama_vocab_is_eog",
    "llama_vocab_type",
)

#: Everything C may call back; losing one of these to the garbage collector is a crash.
_keep: list[Any] = []


class _Expected(threading.local):
    """Whether errors of C in this thread are what was asked for: an abort."""

    errors: Callable[[], bool] = bool


#: Set while C is called that may be told to fail; its errors then are for debugging.
expected = _Expected()

#: Where llama.cpp's threads were started, once they were.
_computing: list[Home] = []


@functools.cache
def llama() -> Any:
    """Return the module of low-level bindings, initialised and quiet.

    Raises:
        NativeLibraryError: it is not installed, cannot be loaded, or lacks what is needed.
    """
    try:
        library = load_bindings()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise NativeLibraryError(
            f"llama-cpp-python cannot be loaded: {error}",
            hint=f"Install it: {reinstall_command()}",
        ) from error
    missing = [name for name in _FUNCTIONS if not hasattr(library, name)]
    for struct, names in _FIELDS.items():
        fields = {entry[0] for entry in getattr(library, struct)._fields_}
        missing += [f"{struct}.{name}" for name in names if name not in fields]
    if missing:
        import llama_cpp

        raise NativeLibraryError(
            f"llama-cpp-python {llama_cpp.__version__} lacks {', '.join(missing)}",
            hint=f"Install the version this release was made for: {reinstall_command()}",
        )
    callback = library.llama_log_callback(_on_log)
    _keep.append(callback)
    library.llama_log_set(callback, None)
    library.llama_backend_init()
    return library


def _on_log(level: int, text: bytes | None, _: object) -> None:
    """Route a line of llama.cpp to :mod:`logging`; must not raise, C is the caller."""
    line = (text or b"").decode("utf-8", errors="replace").rstrip()
    if not line or line == ".":
        return
    record(line)
    if expected.errors():
        level = 0
    if level in (3, 4):
        _recent.append(line)
    # After interpreter shutdown has begun, logging may be half gone.
    if not sys.is_finalizing():
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


@functools.cache
def use_numa(strategy: str) -> None:
    """Place threads on memory nodes; llama.cpp does this once per process, the first time."""
    lib = llama()
    if strategy != "off":
        lib.llama_numa_init(getattr(lib, f"GGML_NUMA_STRATEGY_{strategy.upper()}"))


def begin_computing() -> None:
    """Note that llama.cpp's threads run in this process.

    Raises:
        StateError: they did in the one it was forked from, and are missed: OpenMP would wait.
    """
    if not _computing:
        _computing.append(Home("llama.cpp"))
    _computing[0].check()


def check_fork() -> None:
    """Raise StateError where :func:`begin_computing` would, before anything is loaded."""
    for home in _computing:
        home.check()


def return_memory() -> None:
    """Give what was freed back to the system.

    glibc keeps pages between which anything is left: after a vocabulary, which is many small
    pieces, 20 to 40 MB. Takes about a millisecond. Other allocators need no telling.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def forget_log() -> None:
    """Drop the collected lines, so that the next error shows only its own."""
    _recent.clear()


def last_log(default: str) -> str:
    """Return llama.cpp's last error line without its function name, else ``default``."""
    for line in reversed(_recent):
        if line.endswith("failed to load model"):
            continue  # the reason is the line before
        if "error" in line.lower() or "fail" in line.lower() or "unsupported" in line.lower():
            return one_line(line.split(": ", 1)[-1] if line.split(":")[0].isidentifier() else line)
    return one_line(_recent[-1]) if _recent else default


@functools.cache
def abort_callback() -> Any:
    """Return an abort callback that runs no Python: C's ``strlen``.

    llama.cpp calls ``bool callback(void *data)`` between graph nodes. ``strlen`` of a two-byte
    buffer is 0 while its first byte is zero (go on) and 1 once it is set (abort).
    """
    if sys.platform == "win32":
        strlen = ctypes.cdll.msvcrt.strlen
    else:
        strlen = ctypes.CDLL(None).strlen
    callback = ctypes.cast(strlen, llama().ggml_abort_callback)
    _keep.append((strlen, callback))
    return callback
