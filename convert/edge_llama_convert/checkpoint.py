"""A Hugging Face checkpoint folder: its configuration files and where its tensors lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SourceError, UnsupportedError
from .safetensors import TensorRef, read_header

#: Bound for the JSON files beside the weights; the largest real tokenizer.json has about 35 MB.
MAX_JSON_BYTES = 256 * 1024 * 1024

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk; no weights are in memory.

    Attributes:
        path: the folder.
        config: the content of ``config.json``.
        tensors: every tensor of every shard, by its Hugging Face name.
        shards: the weight files, sorted by name.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, TensorRef]
    shards: tuple[Path, ...]

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Read configuration and tensor headers of the checkpoint folder ``source``.

        Raises:
            SourceError: the folder, its config.json or a shard is missing or damaged; an index
                and the shards disagree.
            UnsupportedError: the weights are not safetensors, or have an unsupported dtype.
        """
        path = Path(source)
        if not path.exists():
            raise SourceError(f"{path}: no such folder", hint="Check the path of the checkpoint.")
        if not path.is_dir():
            raise SourceError(
                f"{path}: not a folder",
                hint="Give the checkpoint's folder, the one that holds config.json.",
            )
        if not any(path.iterdir()):
            raise SourceError(
                f"{path}: the folder is empty",
                hint="It must hold config.json, the tokenizer's and the *.safetensors files.",
            )
        config = read_json(path / "config.json")
        shards, weight_map = _find_shards(path)
        tensors: dict[str, TensorRef] = {}
        for shard in shards:
            for name, ref in read_header(shard).items():
                if name in tensors:
                    raise SourceError(
                        f"{path}: tensor {name} is in both {tensors[name].path.name} and "
                        f"{shard.name}",
                        hint="Leftovers of another download? Keep the files of one checkpoint.",
                    )
                tensors[name] = ref
        if weight_map is not None:
            _check_index(path, weight_map, tensors)
        return cls(path, config, tensors, shards)

    def optional_json(self, name: str) -> dict[str, Any]:
        """Return the content of the JSON file ``name`` in the folder, or {} without it."""
        file = self.path / name
        return read_json(file) if file.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from ``path``; SourceError when it is missing, too large or invalid."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise SourceError(
                f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB, not plausible for this file",
                hint="Fetch the file again.",
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(
            f"{path}: missing", hint="Download the whole checkpoint, not only its weights."
        ) from None
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror or error}", hint="Check the file's permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not valid JSON ({error})", hint="Fetch it again.") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path}: must hold a JSON object", hint="Fetch the file again.")
    return content


def _find_shards(path: Path) -> tuple[tuple[Path, ...], dict[str, str] | None]:
    """Return the weight files and, when there is an index, its tensor -> file map."""
    index = path / INDEX
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(name, str) and Path(name).name == name for name in weight_map.values()
        ):
            raise SourceError(
                f"{index}: 'weight_map' must map tensor names to file names in the same folder",
                hint="Fetch the index file again.",
            )
        shards = tuple(path / name for name in sorted(set(weight_map.values())))
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing:
            raise SourceError(
                f"{path}: {len(missing)} of {len(shards)} shards missing: {', '.join(missing)}",
                hint="Download the missing files into the folder and run the command again.",
            )
        return shards, weight_map
    shards = tuple(sorted(path.glob("model*.safetensors")))
    if not shards:
        if any(path.glob("*.bin")) or any(path.glob("*.pth")):
            raise UnsupportedError(
                f"{path}: the weights are PyTorch pickles; only safetensors is supported",
                hint="Get the *.safetensors files of the checkpoint; most hubs hold both.",
            )
        raise SourceError(
            f"{path}: no model*.safetensors file",
            hint="Download the checkpoint's weights into the folder.",
        )
    return shards, None


def _check_index(path: Path, weight_map: dict[str, str], tensors: dict[str, TensorRef]) -> None:
    wrong = sorted(
        name
        for name in weight_map.keys() | tensors.keys()
        if name not in tensors or weight_map.get(name) != tensors[name].path.name
    )
    if wrong:
        raise SourceError(
            f"{path / INDEX}: the index and the shards disagree about {len(wrong)} tensors: "
            + ", ".join(wrong[:8])
            + (", ..." if len(wrong) > 8 else ""),
            hint="Index and shards come from different downloads; fetch them again together.",
        )
