"""A checkpoint on a hub: which of its files are read, and which have to be fetched."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoint import FORMATS, Checkpoint
from .errors import HubError, SourceError
from .fileio import MAX_JSON_BYTES
from .folder import Folder
from .hub import HubId, open_repo
from .meta import PATTERN as META_PATTERN
from .naming import listed
from .sourcefiles import check_no_holes, only_used, record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from .hub import Fetching
    from .hub.repo import HubRepo
    from .plans import Plan
    from .refs import TensorRef

#: What the converter reads besides the weights; as patterns of names.
_TEXTS = (
    *("config.json", "generation_config.json", "README.md"),
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json"),
    *("merges.txt", "chat_template.json", "chat_template.jinja"),
    "additional_chat_templates/*.jinja",
)


def locate(source: str | Path) -> tuple[HubRepo | None, Path]:
    """Return the folder or file that ``source`` means; of the id of a model also the repository.

    The model's small files are fetched then.

    Raises:
        HubError: the model cannot be had, or holds nothing that can be converted.
    """
    hub_id = HubId.parse(source)
    if hub_id is None:
        return None, Path(source)
    repo = open_repo(hub_id)
    repo.fetch(_texts(repo))
    return repo, repo.folder


def open_checkpoint(path: Path, hub: HubRepo | None = None) -> Checkpoint:
    """Open a checkpoint's folder. Weights that are only on a hub are read in part, from there.

    Raises:
        ConvertError: as :meth:`Checkpoint.open` raises it.
    """
    if hub is None:
        return Checkpoint.open(path)
    try:
        return Checkpoint.open(Folder(path, hub.remote()), name=hub.id.name)
    except SourceError:
        hub.require_reachable()  # something is missing, and the hub may have it
        raise


def fetch(work: Plan, progress: Callable[[Fetching], object] | None = None) -> Plan:
    """Return the plan with all of its source on this machine; ``convert`` does so by itself.

    Of a model on a hub the weights are brought into huggingface_hub's cache, or gone on with, and
    compared with the hub's checksums. ``progress`` is called in this thread; an exception it
    raises ends the download, and what has arrived is kept for the next time.

    Raises:
        HubError: the hub refuses or is out of reach, no space, or damage.
        SourceError: the weights are not those whose headers were read.
    """
    if work.hub is None:
        return work
    work.hub.fetch(work.weights, progress)
    check_no_holes(work.refs)
    _check_same(open_checkpoint(work.source, work.hub), work.refs)
    known = {file.path for file in work.files}
    arrived = only_used(record(work.source), work.refs, texts=False)
    return replace(work, files=(*work.files, *(each for each in arrived if each.path not in known)))


def _check_same(checkpoint: Checkpoint, refs: Iterable[TensorRef]) -> None:
    there = set(checkpoint.tensors.values())
    moved = [ref.name for ref in refs if ref not in there]
    if moved:
        raise SourceError(
            f"{checkpoint.path}: {len(moved)} tensors are not where the hub's headers said: "
            f"{listed(moved)}",
            hint="The hub answered differently for parts and for the whole; convert again.",
        )


def _texts(repo: HubRepo) -> list[str]:
    """Return the small files to fetch; raise HubError when the model cannot be converted."""
    names = [name for name in repo.files if "/" not in name]
    companion = _companion(names)
    if companion is None:
        repo.require_reachable()
        raise _unsuitable(repo, names)
    if companion != "params.json" and "config.json" not in names:
        repo.require_reachable()
        raise HubError(
            f"{repo.label}: has no config.json",
            hint="Choose the repository of the model itself; this one holds a part of it.",
        )
    patterns = (*_TEXTS, companion)
    texts = [
        name for name in repo.files if any(fnmatch.fnmatchcase(name, each) for each in patterns)
    ]
    large = [name for name in texts if repo.files[name].size > MAX_JSON_BYTES]
    if large:
        raise HubError(
            f"{repo.label}: {', '.join(large)}: larger than {MAX_JSON_BYTES >> 20} MiB, not "
            "plausible for this file",
            hint="Choose another repository of the model.",
        )
    return texts


def _companion(names: Collection[str]) -> str | None:
    """Return the small file that goes with the weights: the index, or Meta's parameters.

    Formats are preferred in the same order as in a folder; None when there are no weights.
    """
    for stored in FORMATS:
        if stored.index in names or fnmatch.filter(names, stored.pattern):
            return stored.index
    return "params.json" if fnmatch.filter(names, META_PATTERN) else None


def _unsuitable(repo: HubRepo, names: Collection[str]) -> HubError:
    known = (*(stored.pattern for stored in FORMATS), META_PATTERN)
    if "adapter_config.json" in names:
        return HubError(
            f"{repo.label}: an adapter, not a model",
            hint="Convert the model it was made for.",
        )
    if any(name.endswith(".gguf") for name in repo.files):
        return HubError(
            f"{repo.label}: holds only GGUF files, which are converted already",
            hint=f"Fetch one, which runs as it is: edge-llama pull {repo.id}",
        )
    return HubError(
        f"{repo.label}: holds no weights that can be converted",
        hint=f"They are looked for under the names {', '.join(known)}.",
    )
