"""Deny a process the use of AMX, as on a CPU that has none.

With AMX, llama.cpp's weight repacking takes a path of its own: if GCC 12 compiled it, it ends the
process when it reads a prompt, and decodes some types twice as fast. Neither is what laptops do.
Before its first use Linux wants to be asked for AMX (arch_prctl, ARCH_REQ_XCOMP_PERM), and where
that fails ggml goes on without; so a seccomp filter refuses it, in this process and its children.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # classic BPF, linux/bpf_common.h
_NUMBER, _FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM = 158, 0x1023  # x86-64
_EPERM, _ALLOW = 0x00050001, 0x7FFF0000
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2  # prctl


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def deny_amx() -> None:
    """Make ggml's initialisation of AMX fail; call it before llama.cpp is loaded.

    Raises:
        OSError: the kernel does not take the filter.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return
    steps = (
        (_LOAD, 0, 0, _NUMBER),
        (_IF_EQUAL, 0, 3, _ARCH_PRCTL),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_IF_EQUAL, 0, 1, _ARCH_REQ_XCOMP_PERM),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(
        _SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel does not take a seccomp filter")
