"""plan -> convert: from a checkpoint folder or a GGUF to a finished GGUF, in one pass."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoint import Checkpoint
from .metadata import build_metadata, model_name
from .params import LlamaParams, read_params
from .process import peak_memory
from .quantize import quantise_to_file
from .recipe import Recipe, choose_type
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
from .vocab import read_bpe
from .writer import Layout, check_writable, lay_out, publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ggml import GGMLType


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
        source: the checkpoint folder, or the GGUF file.
        name: the model's name, for file names.
        recipe: the file type.
        params: the model's hyper-parameters.
        layout: header and the place of every tensor.
        files: the source's files, as they were before they were read.
    """

    source: Path
    name: str
    recipe: Recipe
    params: LlamaParams
    layout: Layout
    files: tuple[SourceFile, ...] = ()

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
        seconds: the time it took.
        peak_memory: the largest resident size of the process so far, in bytes, if known.
    """

    path: Path
    plan: Plan
    seconds: float
    peak_memory: int | None


def plan(
    source: str | Path, *, recipe: Recipe | str = Recipe.Q4_K_M, requantize: bool = False
) -> Plan:
    """Read the headers of ``source``, a checkpoint's folder or a GGUF, and plan its conversion.

    ``requantize`` allows a GGUF that is quantised already, which loses precision twice.

    Raises:
        ConvertError: the source is missing, damaged, contradictory or unsupported.
    """
    recipe = Recipe.parse(recipe)
    path = Path(source)
    files = record(path)
    if is_gguf(path):
        params, layout = plan_gguf(path, recipe, requantize=requantize)
        name = model_name_of(path)
    else:
        params, layout, name = _plan_checkpoint(path, recipe)
    refs = [target.tensor.source for target in layout.targets if target.tensor.source]
    check_no_holes(refs)
    return Plan(path, name, recipe, params, layout, only_used(files, refs, texts=path.is_dir()))


def _plan_checkpoint(source: Path, recipe: Recipe) -> tuple[LlamaParams, Layout, str]:
    checkpoint = Checkpoint.open(source)
    params = read_params(checkpoint.config, checkpoint.path / checkpoint.config_name)
    tensors = map_tensors(checkpoint, params)
    vocabulary = read_bpe(checkpoint, params.vocab_size)
    has_output = any(tensor.name == "output.weight" for tensor in tensors)
    kinds = [choose_type(tensor, recipe, params, has_output=has_output) for tensor in tensors]
    writer = build_metadata(checkpoint, params, vocabulary, tensors, recipe)
    return params, lay_out(writer, tensors, kinds), model_name(checkpoint)


def convert(
    work: Plan,
    output: str | Path | None = None,
    *,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Result:
    """Carry out a plan; ``output`` gets its name only when the file is complete and on disk.

    ``threads`` defaults to the number of CPUs. ``progress`` is called in this thread after every
    chunk; an exception it raises (KeyboardInterrupt too) ends the conversion and leaves nothing
    behind. Peak memory does not depend on the size of the model.

    Raises:
        OutputError: ``output`` exists and ``force`` is false, no space, no permission, or it is
            a file of the source.
        TensorError: NaN or Inf in the weights, or a value beyond the type's range.
        SourceError: a file of the source changed since the plan was made.
    """
    started = time.perf_counter()
    path = Path(output) if output is not None else work.default_output
    check_is_no_source(path, work.files)
    check_writable(path, force=force)
    check_unchanged(work.files)
    layout = work.layout
    total = sum(target.nbytes for target in layout.targets)
    done = 0

    def advance(tensor: str, nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if progress is not None:
            progress(Progress(tensor, done, total))

    with publish(path, layout.nbytes, force=force) as temporary:
        with temporary.open("r+b") as file:
            file.write(layout.header)
        quantise_to_file(
            layout.targets, temporary, threads=threads or os.cpu_count() or 1, progress=advance
        )
        check_unchanged(work.files)
    return Result(path, work, time.perf_counter() - started, peak_memory())
