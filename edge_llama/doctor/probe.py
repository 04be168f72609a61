"""What llama.cpp says of itself, as JSON; run in a process that it may end."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from ..errors import EdgeLlamaError


def main() -> None:
    """Write one JSON object to standard output: what there is, or an error and its hint."""
    try:
        found = _probe()
    except EdgeLlamaError as error:
        found = {"error": str(error), "hint": error.hint}
    sys.stdout.write(json.dumps(found))


def _probe() -> dict[str, Any]:
    from ..native import read_hardware
    from ..native.devices import cpu_features

    hardware = read_hardware()
    return {
        "features": sorted(cpu_features()),
        "backends": hardware.backends,
        "repacked_types": sorted(hardware.repacked_types),
        "devices": [dataclasses.asdict(device) for device in hardware.devices],
    }
