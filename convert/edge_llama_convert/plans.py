"""What a conversion will write, and what follows from it before anything is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import TensorError
from .imatrix import coverage
from .naming import listed
from .quantize import Target
from .split import part_path, split_layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .ggml import GGMLType
    from .hub.repo import HubRepo
    from .imatrix import Coverage
    from .params import LlamaParams
    from .recipe import Recipe
    from .refs import TensorRef
    from .sourcefiles import SourceFile
    from .split import SplitLimit
    from .writer import Layout


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
        imatrix: the file of the importance matrix, if there is one.
        notes: where the result will differ from the original model, a sentence each.
        split: how much one file may hold, if there are to be several.
    """

    source: Path
    name: str
    recipe: Recipe
    params: LlamaParams
    layout: Layout
    files: tuple[SourceFile, ...] = ()
    probes: Sequence[Sequence[int]] = ()
    hub: HubRepo | None = None
    imatrix: SourceFile | None = None
    notes: tuple[str, ...] = ()
    split: SplitLimit | None = None

    @property
    def nbytes(self) -> int:
        """Size of the file that will be written, or of all of them, in bytes."""
        return sum(part.nbytes for part in self.parts)

    @cached_property
    def parts(self) -> tuple[Layout, ...]:
        """The files that will be written; one, ``layout``, unless the model is split."""
        return split_layout(self.layout, self.split) if self.split else (self.layout,)

    def outputs(self, output: Path) -> list[Path]:
        """Return the names of the files when they are to be ``output``."""
        count = len(self.parts)
        return [part_path(output, i, count) for i in range(count)] if self.split else [output]

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

    @property
    def importance(self) -> Coverage | None:
        """How many tensors the importance matrix speaks of; None without one."""
        return coverage(self.layout.targets)

    def kv_cache_bytes(self, n_ctx: int) -> int:
        """Return the size of a KV cache in f16 for ``n_ctx`` tokens, in bytes."""
        params = self.params
        return 2 * params.n_layers * n_ctx * params.n_kv_heads * params.head_dim * 2

    def placed_as(self, places: Mapping[str, tuple[GGMLType, int, int]]) -> Plan:
        """Return this plan for a file that exists, whose types and offsets are its own.

        ``places`` maps a tensor's name to its type, its offset from the file's beginning, and the
        file's number, from 0, of a model in several.

        Raises:
            TensorError: the file lacks some of the tensors.
        """
        targets = self.layout.targets
        missing = [target.tensor.name for target in targets if target.tensor.name not in places]
        if missing:
            raise TensorError(
                f"the file lacks {len(missing)} tensors: {listed(missing)}",
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
