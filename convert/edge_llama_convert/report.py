"""The verification report in a GGUF's metadata: room for it, what it says, and reading it back.

The header is written before the tensors, the figures are known after them. So the key's text
has a fixed size, which JSON padded with spaces fills in place at the end. The same files and
tools give the same bytes: no time, no duration and no path of the machine is in it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .checks import Check, Level
from .fileio import SharedFile
from .folder import given_name
from .ggml import load_ggml
from .inputs import Input, changed, fingerprints, inputs_of, paths_of
from .kernels import load_kernels
from .sourcefiles import check_unchanged
from .writer import with_slot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from .checks import Report
    from .header import Slot
    from .plans import Plan

#: The last key of the file.
REPORT_KEY = "edge_llama.report"

#: Reports longer than this leave details out, and are not read back.
MAX_BYTES = 64 * 1024

_FORMAT = 1

#: Bounds of what people are told of a stored report: characters of a line, and checks.
_LINE, _CHECKS = 1000, 16

_PACKAGES = ("edge-llama", "llama-cpp-python", "gguf", "numpy")


def with_report(work: Plan) -> Plan:
    """Return the plan with room for a report; :func:`store_report` fills it in."""
    kinds = {target.kind for target in work.layout.targets}
    n_files = len(paths_of(work)) + (work.imatrix is not None)
    nbytes = 2048 + 256 * n_files + 128 * len(kinds)
    return replace(work, layout=with_slot(work.layout, REPORT_KEY, min(nbytes, MAX_BYTES)))


def store_report(work: Plan, path: Path, report: Report) -> None:
    """Write the report into the file at ``path``, made by a plan :func:`with_report`.

    Raises:
        SourceError: a file of the source changed, or cannot be read.
        OSError: as the system reports it.
    """
    slot = work.layout.slot
    if slot is None:
        raise ValueError("the plan has no room for a report")
    document = _describe(work, report)
    check_unchanged(work.files)
    with SharedFile(path, write=True) as file:
        write_text(file, slot, document)
        file.sync()


def write_text(file: SharedFile, slot: Slot, document: Mapping[str, Any]) -> None:
    """Fill a slot with a document as JSON; details that find no room are left out."""
    for each in _shorter(document):
        text = json.dumps(each, separators=(",", ":"), allow_nan=False).encode("ascii")
        if len(text) <= slot.nbytes:
            file.write_at(memoryview(text.ljust(slot.nbytes)), slot.offset)
            return


def read_report(text: object) -> dict[str, Any] | None:
    """Return a stored report from the key's value; None if it is not one."""
    if not isinstance(text, str) or len(text) > MAX_BYTES:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    known = isinstance(document, dict) and document.get("format") == _FORMAT
    return document if known else None


def compare_inputs(work: Plan, document: Mapping[str, Any], level: Level) -> Check:
    """Compare the files of a checkpoint with those that a stored report names.

    Other files are worth a note and no more: it is the weights that have to agree. Weights of
    which the whole sha256 is stored are read only with ``full``.

    Raises:
        SourceError: weights cannot be read.
    """
    name, stored = "inputs", document.get("inputs")
    if not isinstance(stored, dict) or not all(isinstance(each, dict) for each in stored.values()):
        detail = "not compared: the stored report does not list them"
        return Check(name, passed=True, detail=detail, noteworthy=True)
    different = changed(stored, inputs_of(work), whole=level is Level.FULL)
    if different:
        more = f" and {len(different) - 8} more" if len(different) > 8 else ""
        listed = json.dumps(different[:8])[1:-1]
        detail = f"the file was made from other inputs; different: {listed}{more}"
        return Check(name, passed=True, detail=detail, noteworthy=True)
    return Check(name, passed=True, detail=f"{len(stored)} files are those it was made from")


def is_of(document: Mapping[str, Any], types: Iterable[str]) -> bool:
    """Whether the report is of a file whose tensors have these types, one each.

    Tools that make another file of a GGUF carry the key over.
    """
    try:
        errors = document["verification"]["checks"]["weights"]["relative_rms_error"]
        stated = {name: each["tensors"] for name, each in errors.items()}
    except (KeyError, TypeError, AttributeError):
        return True  # it does not say
    return stated == Counter(types)


def summary(document: Mapping[str, Any]) -> list[str]:
    """Say in a few lines for people what a stored report says; it may be anyone's."""
    verification = document.get("verification")
    if not isinstance(verification, dict):
        verification = {}
    parts = {
        "made from": document.get("source"),
        "made by": document.get("tools"),
        "kernels": document.get("kernels"),
        "verified": verification.get("level"),
    }
    lines = [f"{name} {_plainly(part)}" for name, part in parts.items() if part]
    checks = verification.get("checks")
    named = list(checks.items())[:_CHECKS] if isinstance(checks, dict) else []
    return lines + [_plainly({name: figures}) for name, figures in named]


def _plainly(value: object) -> str:
    """Return a value without JSON's marks; ASCII, so that no control character comes through."""
    text = json.dumps(value).translate(dict.fromkeys(map(ord, '"{}')))
    return text if len(text) <= _LINE else f"{text[:_LINE]} ..."


def _describe(work: Plan, report: Report) -> dict[str, Any]:
    kernels, hub = load_kernels(), work.hub
    known: dict[str, str] = {}
    if hub is not None:
        source = {"name": hub.id.repo, "revision": hub.revision}
        known = {name: file.sha256 for name, file in hub.files.items() if file.sha256}
    else:
        source = {"name": given_name(work.source)}
    whole = report.level is Level.FULL
    return {
        "format": _FORMAT,
        "source": source,
        "inputs": fingerprints(inputs_of(work), known, whole=whole),
        **_imatrix(work),
        "tools": {
            **{name: _version(name) for name in _PACKAGES},
            "ggml": load_ggml().version,
        },
        "kernels": kernels.isa if kernels is not None else "ggml",
        "verification": {
            "level": report.level.value,
            "checks": {
                check.name: {"passed": check.passed, **check.figures} for check in report.checks
            },
        },
    }


def _imatrix(work: Plan) -> dict[str, Any]:
    if work.imatrix is None:
        return {}
    path = work.imatrix.path
    file = Input(path, work.imatrix.state[2], None)
    return {"imatrix": fingerprints({path.name: file}, {}, whole=True)}


def _version(package: str) -> str:
    from importlib import metadata  # a megabyte that a conversion without a report does not need

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from its source, not installed
        return "unknown"


def _shorter(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the document, then what remains of it with ever less detail."""
    yield document
    inputs = document.get("inputs", {})
    listing = json.dumps(inputs, sort_keys=True).encode("ascii")
    summary = {"files": len(inputs), "listing_sha256": hashlib.sha256(listing).hexdigest()}
    document = {**document, "inputs": summary}
    yield document
    level = document.get("verification", {}).get("level")
    yield {**document, "verification": {"level": level}}
    yield {"format": _FORMAT}
    yield {}
