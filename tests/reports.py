"""Conversions with a report, and a file as it was without one, for tests and benchmarks."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import gguf

from edge_llama.reading import Reading
from edge_llama_convert import convert, plan
from edge_llama_convert.checks import Level
from edge_llama_convert.report import REPORT_KEY, store_report, with_report
from edge_llama_convert.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from edge_llama_convert import Plan


def convert_with_report(
    source: Path, out: Path, *, level: Level = Level.QUICK, **choices: Any
) -> Plan:
    """Convert as the command does: verified, and with the report in the file."""
    work = with_report(plan(source, **choices))

    def check(path: Path) -> None:
        with Reading(path) as reading:
            store_report(work, path, verify(work, path, level, reading))

    convert(work, out, force=True, check=check)
    return work


def without_report(path: Path) -> bytes:
    """The file's bytes without its last key, if that is the report; read by the gguf package."""
    reader, content = gguf.GGUFReader(path), path.read_bytes()
    *_, key = reader.fields
    assert key == REPORT_KEY
    field, last = reader.fields[key], reader.tensors[-1].field
    begin, end = (
        field.offset,
        field.offset + sum(int(part.nbytes) for part in field.parts),
    )
    infos_end = last.offset + sum(int(part.nbytes) for part in last.parts)
    count = struct.unpack_from("<Q", content, 16)[0] - 1
    head = content[:16] + struct.pack("<Q", count) + content[24:begin] + content[end:infos_end]
    padding = bytes(-len(head) % gguf.GGUF_DEFAULT_ALIGNMENT)
    return head + padding + content[reader.data_offset :]
