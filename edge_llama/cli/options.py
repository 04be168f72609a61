"""Options that several commands share; names, defaults and help come from the config classes."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from ..config import KVType, ModelConfig, Sampling

_FIELDS = {
    field.name: field for cls in (ModelConfig, Sampling) for field in dataclasses.fields(cls)
}


def _option(name: str, *flags: str) -> Any:
    return typer.Option(*flags, help=_FIELDS[name].metadata["help"])


ModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A GGUF file, or the name of one in models/; by default the embedded SmolLM2-135M.",
    ),
]

Context = Annotated[int | None, _option("n_ctx", "--ctx", "-c")]
Threads = Annotated[int | None, _option("threads", "--threads", "-t")]
KV = Annotated[KVType, _option("kv_type", "--kv-type")]

Temperature = Annotated[float, _option("temperature", "--temperature", "--temp")]
TopK = Annotated[int, _option("top_k", "--top-k")]
TopP = Annotated[float, _option("top_p", "--top-p")]
MinP = Annotated[float, _option("min_p", "--min-p")]
RepeatPenalty = Annotated[float, _option("repeat_penalty", "--repeat-penalty")]
Seed = Annotated[int | None, _option("seed", "--seed", "-s")]
MaxTokens = Annotated[int | None, _option("max_tokens", "--max-tokens", "-n")]
Stop = Annotated[list[str] | None, _option("stop", "--stop")]

#: The defaults, for the signatures of the commands.
MODEL, SAMPLING = ModelConfig(), Sampling()
