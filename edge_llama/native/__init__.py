"""llama.cpp through ctypes: the only place that imports llama_cpp.

Whatever would end the process in C is made impossible here: sizes are checked before a call, a
handle is used by one owner and freed once, callbacks stay referenced, and a failed call becomes
an exception with the last lines of llama.cpp's log.
"""

from .context import NativeContext
from .hardware import read_hardware
from .model import NativeModel
from .sampler import NativeSampler
from .threads import release_threads

__all__ = ["NativeContext", "NativeModel", "NativeSampler", "read_hardware", "release_threads"]
