"""``edge-llama pull``: a GGUF from a hub, verified, into the folder for models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidOptionError, ModelNotFoundError
from . import console, options
from .interrupt import interruptible
from .progress import byte_progress, fetching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_llama_convert.hub.files import HubFile
    from edge_llama_convert.hub.repo import HubRepo

_SOURCE = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w.+/-]*))?"
    r"(?::(?P<wanted>.+))?",
    re.ASCII,
)
#: Files that can be converted, where a repository holds no GGUF.
_WEIGHTS = (".safetensors", ".bin", ".pth")


def pull(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ORG/NAME[@REVISION][:TYPE]",
            help="A repository on the Hugging Face hub that holds GGUFs, and which of them.",
        ),
    ],
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="NAME", help="The file, instead of :TYPE."),
    ] = None,
    as_json: options.AsJSON = False,
) -> None:
    """Fetch one model: only its files, resumable, compared with the hub's checksums.

    It goes to models/ if there is such a folder here, else to the user's own, and is called
    ORG/NAME from then on. Of several GGUFs the one of type Q4_K_M is taken if none is named.
    """
    from edge_llama_convert.hub import HubId, open_repo

    from ..catalog import landing_folder
    from ..gguf_file import inspect
    from ..units import format_bytes

    match = _SOURCE.fullmatch(source)
    if match is None or ".." in source:
        raise InvalidOptionError(
            f"{source} is no repository on a hub",
            hint="Write it as org/name, org/name@revision or org/name:Q4_K_M.",
        )
    if file is not None and match["wanted"] is not None:
        raise InvalidOptionError("--file and :TYPE exclude each other", hint="Use one of them.")
    with console.status(f"asking for {match['repo']}"):
        repo = open_repo(HubId(match["repo"], match["revision"]))
    names = _choose(repo, match["repo"], file or match["wanted"])
    with byte_progress() as show, interruptible():
        paths = repo.save(names, landing_folder(), fetching(show))
    info = inspect(paths[0])
    if as_json:
        console.write_json(
            {
                "path": paths[0],
                "files": paths,
                "bytes": info.nbytes,
                "origin": match["repo"],
                "commit": repo.revision,
            }
        )
        return
    console.note(f"{repo.label}: {format_bytes(info.nbytes)}, verified")
    console.note(f"run it with: edge-llama chat {match['repo']}")
    console.write(f"{paths[0]}\n")


def _choose(repo: HubRepo, where: str, wanted: str | None) -> Sequence[str]:
    from ..ggufnames import group, is_whole, pick

    models = {name: files for name, files in group(repo.files).items() if is_whole(files)}
    if models:
        return pick(models, wanted, where=where, shown=_shown(models, repo.files))
    repo.require_reachable()
    if any(name.endswith(_WEIGHTS) for name in repo.files):
        raise ModelNotFoundError(
            f"{repo.label}: holds no GGUF", hint=f"Convert it with: edge-llama convert {where}"
        )
    raise ModelNotFoundError(f"{repo.label}: holds no model", hint="Choose another repository.")


def _shown(models: Mapping[str, Sequence[str]], files: Mapping[str, HubFile]) -> str:
    """Return the choices with their sizes, the smallest first."""
    from ..ggufnames import unique_labels
    from ..units import format_bytes

    sizes = {name: sum(files[part].size for part in parts) for name, parts in models.items()}
    labels = unique_labels(models)
    ordered = sorted(sizes, key=lambda name: sizes[name])
    return ", ".join(f"{labels[name]} ({format_bytes(sizes[name])})" for name in ordered)
