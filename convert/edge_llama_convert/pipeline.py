"""plan -> convert: from a checkpoint folder or a GGUF to a finished GGUF, in one pass."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .beside import Beside
from .choose import choose_types
from .errors import ConvertError
from .filling import filled, write_headers
from .hubsource import fetch, locate, open_checkpoint
from .imatrix import imatrix_keys, with_importance
from .imatrixfile import read_imatrix
from .metadata import build_metadata, set_metadata
from .notes import notes_on
from .params import read_params
from .plans import Plan
from .process import peak_memory, release_memory
from .publishing import publish_all
from .recipe import Recipe
from .requantize import is_gguf, model_name_of, plan_gguf
from .sourcefiles import (
    check_is_no_source,
    check_no_holes,
    check_unchanged,
    only_used,
    record,
)
from .tensors import map_tensors
from .vocab import read_vocabulary
from .writer import check_writable, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .hub import Fetching
    from .overrides import TypeOverrides
    from .split import SplitLimit


@dataclass(frozen=True)
class Progress:
    """How far a conversion is: the tensor being written, bytes written and bytes in all."""

    tensor: str
    done: int
    total: int


@dataclass(frozen=True)
class Result:
    """A finished conversion.

    Attributes:
        path: the file, or the first of several.
        plan: what was carried out.
        seconds: the time it took, without what a hub needed.
        peak_memory: the largest resident size of the process so far, in bytes, if known.
    """

    path: Path
    plan: Plan
    seconds: float
    peak_memory: int | None


def plan(  # noqa: PLR0913 - all but one are keywords, each a choice of its own
    source: str | Path,
    *,
    recipe: Recipe | str = Recipe.Q4_K_M,
    pre: str | None = None,
    overrides: TypeOverrides | None = None,
    metadata: Mapping[str, str] | None = None,
    requantize: bool = False,
    imatrix: str | Path | None = None,
    split: SplitLimit | None = None,
) -> Plan:
    """Read the headers of ``source``, and plan its conversion.

    ``source`` is a checkpoint's folder, a GGUF, or, as a ``str`` that is no path which exists, the
    id of a model on a hub, ``org/name[@revision]``. Its small files are fetched and the headers
    of its weights are read; :func:`fetch` or :func:`convert` bring the weights themselves.

    ``pre`` is llama.cpp's name for the way a byte-level BPE tokenizer splits text, for the rare
    tokenizer where it cannot be found out. ``overrides`` are types that the caller chooses
    instead of the recipe's. ``metadata`` sets keys of the GGUF; one that is there keeps its type.
    ``requantize`` allows a GGUF that is quantised already, which loses precision twice; of a GGUF
    the tokenizer and all metadata are taken over as they are. ``imatrix`` is a file of
    llama-imatrix, for this model: columns are quantised by their importance. ``split`` makes
    several files, of that size each.

    Raises:
        ConvertError: the source is missing, damaged, contradictory or unsupported.
    """
    recipe = Recipe.parse(recipe)
    hub, path = locate(source)
    files = record(path)
    weights = read_imatrix(imatrix) if imatrix is not None else None
    probes: Sequence[Sequence[int]] = ()
    notes: tuple[str, ...] = ()
    if is_gguf(path):
        if metadata or pre:
            raise ConvertError(
                f"{path}: a GGUF keeps its metadata and tokenizer",
                hint="Leave out --metadata and --pre, or convert from the checkpoint.",
            )
        params, layout = plan_gguf(path, recipe, overrides, weights, requantize=requantize)
        name = model_name_of(path)
    else:
        checkpoint = open_checkpoint(path, hub)
        params = read_params(checkpoint.config, checkpoint.path / checkpoint.config_name)
        tensors = with_importance(map_tensors(checkpoint, params), weights)
        vocabulary = read_vocabulary(checkpoint, params.vocab_size, pre=pre)
        kinds = choose_types(tensors, recipe, params, overrides)
        writer = build_metadata(checkpoint, params, vocabulary, tensors, recipe)
        set_metadata(writer, metadata or {})
        layout = lay_out(writer, tensors, kinds, imatrix_keys(weights).values())
        name = checkpoint.name
        probes, notes = vocabulary.probes, notes_on(checkpoint, params, vocabulary)
        del checkpoint, vocabulary, writer
    release_memory()  # the tokenizer's JSON, most of a small model's peak
    work = Plan(path, name, recipe, params, layout, probes=probes, hub=hub, notes=notes)
    if hub is None:
        check_no_holes(work.refs)
    work = replace(
        work,
        files=only_used(files, work.refs, texts=path.is_dir()),
        imatrix=weights.file if weights is not None else None,
        split=split,
    )
    _ = work.parts  # now is the time to find that the limit is too small
    return work


def convert(  # noqa: PLR0913 - all but two are keywords, each a choice of its own
    work: Plan,
    output: str | Path | None = None,
    *,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    fetching: Callable[[Fetching], object] | None = None,
    check_header: Callable[[Path], object] | None = None,
    check: Callable[[Path], object] | None = None,
) -> Result:
    """Carry out a plan; ``output`` gets its name only when the file is complete and on disk.

    ``threads`` defaults to the number of CPUs. ``progress`` is called in this thread after every
    chunk; an exception it raises (KeyboardInterrupt too) ends the conversion and leaves nothing
    behind. ``fetching`` is called while a model comes from a hub, see :func:`fetch`. Peak memory
    does not depend on the size of the model.

    ``check_header`` gets the path of the file when its header is complete and its tensors are
    not: it is called in a thread of its own, beside the quantising. ``check`` gets the path of
    the complete file before it has its name (see :func:`edge_llama_convert.verify.verify`). An
    exception that one of them raises ends the conversion, and there will be no file. Of a model
    in several files they get the path of the first; the files get their names together, the
    first one last.

    Raises:
        OutputError: ``output`` exists and ``force`` is false, no space, no permission, or it is
            a file of the source.
        TensorError: NaN or Inf in the weights, or a value beyond the type's range.
        SourceError: a file of the source changed since the plan was made.
        HubError: as :func:`fetch` raises it.
    """
    paths = work.outputs(Path(output) if output is not None else work.default_output)
    for path in paths:
        check_is_no_source(path, (*work.files, *([work.imatrix] if work.imatrix else [])))
        check_writable(path, force=force)
    work = fetch(work, fetching)
    started = time.perf_counter()
    check_unchanged(work.files)
    total = sum(target.nbytes for target in work.layout.targets)
    done = 0

    def advance(tensor: str, nbytes: int) -> None:
        nonlocal done
        done += nbytes
        header.poll()
        if progress is not None:
            progress(Progress(tensor, done, total))

    sizes = [part.nbytes for part in work.parts]
    threads = threads or os.cpu_count() or 1
    with publish_all(list(zip(paths, sizes, strict=True)), force=force) as temporaries:
        files = list(zip(temporaries, work.parts, strict=True))
        write_headers(files)
        look = partial(check_header, temporaries[0]) if check_header is not None else None
        with Beside(look) as header, filled(files, threads=threads, progress=advance):
            header.wait()
            check_unchanged(work.files)
            if check is not None:
                check(temporaries[0])
    return Result(paths[0], work, time.perf_counter() - started, peak_memory())
