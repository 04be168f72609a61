"""Where a right file still differs from the original model, said before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .quantised import leftover_of

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .params import LlamaParams
    from .vocab import Vocabulary


def notes_on(
    checkpoint: Checkpoint, params: LlamaParams, vocabulary: Vocabulary
) -> tuple[str, ...]:
    """Return what the user should know of the result, a sentence each; mostly nothing."""
    notes = list(vocabulary.notes)
    window, context = params.narrow_window, params.context_length
    if window is not None:
        notes.append(
            f"the model was trained with a sliding window of {window:,} tokens, which llama.cpp's "
            f"LLaMA does not have: keep the context within {window:,} tokens; beyond, answers "
            "differ from the original's"
        )
    if params.rope_type == "dynamic":
        notes.append(
            f"dynamic rope scaling is not carried over, llama.cpp has none: keep the context "
            f"within {context:,} tokens"
        )
    leftover = leftover_of(checkpoint)
    if leftover is not None:
        notes.append(f"{leftover}, but the weights are whole; they are converted as they are")
    return tuple(notes)
