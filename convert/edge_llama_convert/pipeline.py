"""plan -> convert: from a checkpoint folder or a GGUF to a finished GGUF, in one pass."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .choose import choose_types
from .errors import ConvertError, TensorError
from .fileio import SharedFile
from .hubsource import fetch, locate, open_checkpoint
from .metadata import build_metadata, set_metadata
from .notes import notes_on
from .params import LlamaParams, read_params
from .process import peak_memory, release_memory
from .quantize import Target, quantise_to_file
from .recipe import Recipe
from .requantize import is_gguf, model_name_of, plan_gguf
from .sourcefiles import (
    SourceFile,
    check_is_no_source,
    check_no_holes,
    check_unchanged,
    only_used,
    record,
)
from .tensors import map_tensors
from .vocab import read_vocabulary
from .writeback import WriteBack
from .writer import Layout, check_writable, lay_out, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .ggml import GGMLType
    from .hub import Fetching
    from .hub.repo import HubRepo
    from .overrides import TypeOverrides
    from .refs import TensorRef


@dataclass(frozen=True)
class TypeTotal:
    """How many tensors of one type the result holds, and their size in bytes."""

    kind: GGMLType
    tensors: int
    nbytes: int


@dataclass(frozen=True)
class Plan:
    """What a conversion will write; made from headers alone, nothing is written yet.

    Attributes:
        source: the checkpoint folder, or the GGUF file; of a model on a hub the folder in the
            cache, where its weights are once :func:`fetch` has brought them.
        name: the model's name, for file names.
        recipe: the file type.
        params: the model's hyper-parameters.
        layout: header and the place of every tensor.
        files: the source's files, as they were before they were read.
        probes: the original tokenizer's ids of :data:`vocab.probe.PROBES`; none of a GGUF's.
        hub: the model's repository if it comes from a hub: its label, the commit, and checksums.
        notes: where the result will differ from the original model, a sentence each.
    """

    source: Path
    name: str
    recipe: Recipe
    params: LlamaParams
    layout: Layout
    files: tuple[SourceFile, ...] = ()
    probes: Sequence[Sequence[int]] = ()
    hub: HubRepo | None = None
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size of the file that will be written, in bytes."""
        return self.layout.nbytes

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(target.tensor.rows * target.tensor.n_per_row for target in self.layout.targets)

    @property
    def totals(self) -> list[TypeTotal]:
        """Tensors and bytes by type, largest first."""
        count: Counter[GGMLType] = Counter()
        nbytes: Counter[GGMLType] = Counter()
        for target in self.layout.targets:
            count[target.kind] += 1
            nbytes[target.kind] += target.nbytes
        return [TypeTotal(kind, count[kind], size) for kind, size in nbytes.most_common()]

    @property
    def bits_per_weight(self) -> float:
        """Size of the file in bits, per weight."""
        return self.nbytes * 8 / self.n_parameters

    def kv_cache_bytes(self, n_ctx: int) -> int:
        """Return the size of a KV cache in f16 for ``n_ctx`` tokens, in bytes."""
        params = self.params
        return 2 * params.n_layers * n_ctx * params.n_kv_heads * params.head_dim * 2

    def placed_as(self, places: Mapping[str, tuple[GGMLType, int]]) -> Plan:
        """Return this plan for a file that exists, whose types and offsets are its own.

        ``places`` maps a tensor's name to its type and its offset from the file's beginning.

        Raises:
            TensorError: the file lacks some of the tensors.
        """
        targets = self.layout.targets
        missing = [target.tensor.name for target in targets if target.tensor.name not in places]
        if missing:
            raise TensorError(
                f"the file lacks {len(missing)} tensors: {', '.join(missing[:8])}",
                hint="It was made from another checkpoint, or not by edge-llama.",
            )
        moved = tuple(Target(each.tensor, *places[each.tensor.name]) for each in targets)
        return replace(self, layout=replace(self.layout, targets=moved))

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """Where the source's tensors lie."""
        return tuple(ref for target in self.layout.targets for ref in target.tensor.sources)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the source's files that hold tensors."""
        return tuple(sorted({piece.path.name for ref in self.refs for piece in ref.pieces}))

    @property
    def default_output(self) -> Path:
        """``models/<name>-<type>.gguf``, relative to the current folder."""
        return Path("models") / f"{self.name}-{self.recipe.value}.gguf"


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
        path: the file.
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
) -> Plan:
    """Read the headers of ``source``, and plan its conversion.

    ``source`` is a checkpoint's folder, a GGUF, or, as a ``str`` that is no path which exists, the
    id of a model on a hub, ``org/name[@revision]``. Its small files are fetched and the headers
    of its weights are read; :func:`fetch` or :func:`convert` bring the weights themselves.

    ``pre`` is llama.cpp's name for the way a byte-level BPE tokenizer splits text, for the rare
    tokenizer where it cannot be found out. ``overrides`` are types that the caller chooses
    instead of the recipe's. ``metadata`` sets keys of the GGUF; one that is there keeps its type.
    ``requantize`` allows a GGUF that is quantised already, which loses precision twice; of a GGUF
    the tokenizer and all metadata are taken over as they are.

    Raises:
        ConvertError: the source is missing, damaged, contradictory or unsupported.
    """
    recipe = Recipe.parse(recipe)
    hub, path = locate(source)
    files = record(path)
    probes: Sequence[Sequence[int]] = ()
    notes: tuple[str, ...] = ()
    if is_gguf(path):
        if metadata or pre:
            raise ConvertError(
                f"{path}: a GGUF keeps its metadata and tokenizer",
                hint="Leave out --metadata and --pre, or convert from the checkpoint.",
            )
        params, layout = plan_gguf(path, recipe, overrides, requantize=requantize)
        name = model_name_of(path)
    else:
        checkpoint = open_checkpoint(path, hub)
        params = read_params(checkpoint.config, checkpoint.path / checkpoint.config_name)
        tensors = map_tensors(checkpoint, params)
        vocabulary = read_vocabulary(checkpoint, params.vocab_size, pre=pre)
        kinds = choose_types(tensors, recipe, params, overrides)
        writer = build_metadata(checkpoint, params, vocabulary, tensors, recipe)
        set_metadata(writer, metadata or {})
        layout, name = lay_out(writer, tensors, kinds), checkpoint.name
        probes, notes = vocabulary.probes, notes_on(checkpoint, params, vocabulary)
        del checkpoint, vocabulary, writer
    release_memory()  # the tokenizer's JSON, most of a small model's peak
    work = Plan(path, name, recipe, params, layout, probes=probes, hub=hub, notes=notes)
    if hub is None:
        check_no_holes(work.refs)
    return replace(work, files=only_used(files, work.refs, texts=path.is_dir()))


def convert(  # noqa: PLR0913 - all but two are keywords, each a choice of its own
    work: Plan,
    output: str | Path | None = None,
    *,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    fetching: Callable[[Fetching], object] | None = None,
    check: Callable[[Path], object] | None = None,
) -> Result:
    """Carry out a plan; ``output`` gets its name only when the file is complete and on disk.

    ``threads`` defaults to the number of CPUs. ``progress`` is called in this thread after every
    chunk; an exception it raises (KeyboardInterrupt too) ends the conversion and leaves nothing
    behind. ``fetching`` is called while a model comes from a hub, see :func:`fetch`. Peak memory
    does not depend on the size of the model. ``check`` gets the path of the complete file before
    it has its name (see :func:`edge_llama_convert.verify.verify`); an exception it raises means
    that there will be no file.

    Raises:
        OutputError: ``output`` exists and ``force`` is false, no space, no permission, or it is
            a file of the source.
        TensorError: NaN or Inf in the weights, or a value beyond the type's range.
        SourceError: a file of the source changed since the plan was made.
        HubError: as :func:`fetch` raises it.
    """
    path = Path(output) if output is not None else work.default_output
    check_is_no_source(path, work.files)
    check_writable(path, force=force)
    work = fetch(work, fetching)
    started = time.perf_counter()
    check_unchanged(work.files)
    layout = work.layout
    total = sum(target.nbytes for target in layout.targets)
    done = 0

    with (
        publish(path, layout.nbytes, force=force) as temporary,
        SharedFile(temporary, write=True) as file,
        WriteBack(file) as disk,
    ):

        def advance(tensor: str, nbytes: int) -> None:
            nonlocal done
            done += nbytes
            disk.wrote(nbytes)
            if progress is not None:
                progress(Progress(tensor, done, total))

        file.write_at(memoryview(layout.header), 0)
        quantise_to_file(
            layout.targets, file, threads=threads or os.cpu_count() or 1, progress=advance
        )
        disk.flush()
        check_unchanged(work.files)
        if check is not None:
            check(temporary)
    return Result(path, work, time.perf_counter() - started, peak_memory())
