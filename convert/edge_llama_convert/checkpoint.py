"""A checkpoint folder: its configuration files and where its tensors lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .diagnosis import refuse_foreign
from .errors import SourceError, UnsupportedError
from .fileio import check_regular, check_text
from .folder import Folder, given_name
from .meta import PATTERN as META_PATTERN
from .meta import read_meta
from .naming import listed
from .safetensors import read_header
from .torchfile import read_torch_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from .refs import TensorRef

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class WeightFormat:
    """A way weights are stored: the names of index and files, and how one file is read."""

    index: str
    pattern: str
    read: Callable[[Path, Callable[[Path], BinaryIO]], dict[str, TensorRef]]


#: In order of preference: a folder often holds the same weights in both formats.
FORMATS = (
    WeightFormat(INDEX, "model*.safetensors", read_header),
    WeightFormat("pytorch_model.bin.index.json", "pytorch_model*.bin", read_torch_file),
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk; no weights are in memory.

    Attributes:
        path: the folder.
        name: the model's name, by default the folder's as it was given; a link keeps its own.
        config: the content of ``config.json``.
        tensors: every tensor of every shard, by its Hugging Face name.
        shards: the weight files, sorted by name.
        config_name: the file that ``config`` comes from.
        interleaved: rows of Q and K are in the order ggml rotates them in (Meta's files).
    """

    path: Path
    name: str
    config: dict[str, Any]
    tensors: dict[str, TensorRef]
    shards: tuple[Path, ...]
    config_name: str = "config.json"
    interleaved: bool = False

    @classmethod
    def open(cls, source: str | Path | Folder, *, name: str | None = None) -> Checkpoint:
        """Read configuration and tensor headers of the checkpoint folder ``source``.

        Raises:
            SourceError: the folder, its config.json or a shard is missing or damaged; an index
                and the shards disagree.
            UnsupportedError: the weights are in another format, or have an unsupported dtype.
        """
        folder = source if isinstance(source, Folder) else Folder(Path(source))
        path = folder.path
        _check_folder(path)
        if not folder.remote:
            refuse_foreign(path)
        name = name or given_name(path)
        if folder.find(META_PATTERN) and not any(map(_holds(folder), FORMATS)):
            config, tensors, shards = read_meta(folder, read_json(path / "params.json"))
            return cls(path, name, config, tensors, shards, "params.json", interleaved=True)
        config = read_json(path / "config.json")
        stored = _find_format(folder)
        shards, weight_map = _find_shards(folder, stored)
        tensors = {}
        twice: dict[str, set[str]] = {}
        for shard in shards:
            for tensor, ref in stored.read(shard, folder.open).items():
                if tensor in tensors:
                    twice.setdefault(tensor, {tensors[tensor].path.name}).add(shard.name)
                tensors[tensor] = ref
        if twice:
            files = sorted(set().union(*twice.values()))
            raise SourceError(
                f"{path}: {len(twice)} tensors are in more than one of {', '.join(files)}: "
                f"{listed(twice)}",
                hint="Leftovers of another download? Keep the files of one checkpoint.",
            )
        if weight_map is not None:
            _check_index(path / stored.index, weight_map, tensors)
        if config.get("tie_word_embeddings"):
            _drop_tied_output(tensors)
        return cls(path, name, config, tensors, shards)

    def optional_json(self, name: str) -> dict[str, Any]:
        """Return the content of the JSON file ``name`` in the folder, or {} without it."""
        file = self.path / name
        return read_json(file) if file.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from ``path``; SourceError when it is missing, too large or invalid."""
    try:
        if path.exists():
            check_regular(path)
        check_text(path)
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


def _check_folder(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise SourceError(
            f"{path}: a link that leads nowhere, or in a circle",
            hint="Give the folder itself, or mend the link.",
        )
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
            hint="It must hold config.json, tokenizer.json and the weights (*.safetensors).",
        )


def _holds(folder: Folder) -> Callable[[WeightFormat], bool]:
    """Return a test whether the folder has files of a format."""
    return lambda stored: folder.holds(stored.index) or bool(folder.find(stored.pattern))


def _find_format(folder: Folder) -> WeightFormat:
    """Return the first format that the folder holds weights in."""
    path = folder.path
    for stored in filter(_holds(folder), FORMATS):
        return stored
    others = sorted({file.suffix for file in path.iterdir()} & {".bin", ".pth", ".pt", ".gguf"})
    if others:
        raise UnsupportedError(
            f"{path}: the only weights are {', '.join(f'*{suffix}' for suffix in others)} files "
            "with unknown names",
            hint=f"Known names: model*.safetensors, pytorch_model*.bin and {META_PATTERN}.",
        )
    raise SourceError(
        f"{path}: no model*.safetensors file",
        hint="Download the checkpoint's weights into the folder.",
    )


def _find_shards(
    folder: Folder, stored: WeightFormat
) -> tuple[tuple[Path, ...], dict[str, str] | None]:
    """Return the weight files and, when there is an index, its tensor -> file map."""
    path, index = folder.path, folder.path / stored.index
    if not index.is_file():
        return folder.find(stored.pattern), None
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in weight_map.values()
    ):
        raise SourceError(
            f"{index}: 'weight_map' must map tensor names to file names in the same folder",
            hint="Fetch the index file again.",
        )
    single = stored.index.removesuffix(".index.json")
    if single not in weight_map.values() and (path / single).is_file():
        raise SourceError(
            f"{path}: both {single} and {stored.index}, which names other files",
            hint="Two copies of the weights, perhaps different ones: take one away.",
        )
    shards = tuple(path / name for name in sorted(set(weight_map.values())))
    missing = [shard.name for shard in shards if not folder.holds(shard.name)]
    if missing:
        raise SourceError(
            f"{path}: {len(missing)} of {len(shards)} shards missing: {', '.join(missing)}",
            hint="Download the missing files into the folder and run the command again.",
        )
    return shards, weight_map


def _drop_tied_output(tensors: dict[str, TensorRef]) -> None:
    """Drop an output matrix that is the embedding itself, the very same bytes of the file.

    torch saves a tied matrix under both names; safetensors cannot and leaves one out. Without
    it the result is the same from either, and smaller by the matrix.
    """
    output, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if (
        output is not None
        and embedding is not None
        and (output.path, output.offset, output.shape)
        == (embedding.path, embedding.offset, embedding.shape)
    ):
        del tensors["lm_head.weight"]


def _check_index(index: Path, weight_map: dict[str, str], tensors: dict[str, TensorRef]) -> None:
    wrong = sorted(
        name
        for name in weight_map.keys() | tensors.keys()
        if name not in tensors or weight_map.get(name) != tensors[name].path.name
    )
    if wrong:
        raise SourceError(
            f"{index}: the index and the shards disagree about {len(wrong)} tensors: "
            f"{listed(wrong)}",
            hint="Index and shards come from different downloads; fetch them again together.",
        )
