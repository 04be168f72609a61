"""config.json of a LLaMA checkpoint -> frozen :class:`LlamaParams`; all faults in one error.

Defaults are those of transformers' LlamaConfig, MistralConfig and MixtralConfig, which a saved
config.json may leave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .configreader import ConfigReader
from .errors import ParamsError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUPPORTED_ARCHITECTURES = (
    "LlamaForCausalLM",
    "LLaMAForCausalLM",  # as the first conversions of Llama 1 spelled it
    "MistralForCausalLM",
    "MixtralForCausalLM",
)

#: transformers' names of models whose tensors are named as LLaMA's and mean something else: biases
#: or norms within attention, scaled embeddings, other norms, layers without rope.
_OTHERS = (
    "apertus arcee bitnet cohere cohere2 deepseek_v2 deepseek_v3 ernie4_5 exaone4 gemma gemma2 "
    "gemma3 gemma3_text glm glm4 granite granitemoe helium hunyuan_v1_dense llama4 llama4_text "
    "minicpm minicpm3 nemotron olmo olmo2 olmo3 olmoe phi phi3 phimoe qwen2 qwen2_moe qwen3 "
    "qwen3_moe seed_oss smollm3 stablelm starcoder2"
)
_OTHER_TYPES = frozenset(_OTHERS.split())

#: llama.cpp's limits (llama-hparams.h); a damaged count must not fill the memory with names.
MAX_LAYERS, MAX_EXPERTS = 512, 1024

#: Rope types carried over; "dynamic" needs no key (it acts beyond the trained context only).
_ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3")

#: Numbers of a rope scaling; "factor" must be there.
_ROPE_NUMBERS = (
    *("factor", "original_max_position_embeddings", "attention_factor"),
    *("beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"),
)

#: What llama.cpp computes YaRN with for every LLaMA, whatever a GGUF's keys say.
_FIXED_YARN = {"beta_fast": 32, "beta_slow": 1, "extrapolation_factor": 1, "truncate": True}


@dataclass(frozen=True, kw_only=True)
class _Defaults:
    """What transformers' configuration class assumes when a key is missing.

    ``n_kv_heads`` None stands for as many as there are heads; ``states_head_dim`` tells whether
    the class fills a missing head_dim in (GGUF then has key_length and value_length);
    ``has_window`` whether its model heeds ``sliding_window``.
    """

    context_length: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    n_kv_heads: int | None = None
    states_head_dim: bool = True
    n_experts: int | None = None
    n_experts_used: int | None = None
    has_window: bool = False
    sliding_window: int | None = None


_DEFAULTS = {
    "llama": _Defaults(),
    "mistral": _Defaults(context_length=131072, n_kv_heads=8, has_window=True, sliding_window=4096),
    "mixtral": _Defaults(
        context_length=131072,
        rms_norm_eps=1e-5,
        rope_theta=1e6,
        n_kv_heads=8,
        states_head_dim=False,
        n_experts=8,
        n_experts_used=2,
        has_window=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class LlamaParams:
    """Hyper-parameters of a LLaMA model. Sizes in elements, context in tokens.

    ``n_experts`` and ``n_experts_used`` (per token) are None without a mixture of experts,
    ``sliding_window`` (tokens) when attention reaches back to the beginning.
    """

    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    states_head_dim: bool
    vocab_size: int
    context_length: int
    rms_norm_eps: float
    rope_theta: float
    rope_type: str
    rope: Mapping[str, Any]
    tied_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    n_experts: int | None
    n_experts_used: int | None
    sliding_window: int | None = None

    @property
    def narrow_window(self) -> int | None:
        """The sliding window, in tokens, if it is narrower than the context."""
        window = self.sliding_window
        return window if window is not None and window < self.context_length else None

    @property
    def n_gqa(self) -> int:
        """Query heads per key/value head."""
        return self.n_heads // self.n_kv_heads


def read_params(config: Mapping[str, Any], path: Path) -> LlamaParams:
    """Turn the content of ``config.json`` into parameters; ``path`` is for messages.

    Raises:
        UnsupportedError: another architecture, activation or rope type.
        ParamsError: one error that names every missing or contradictory key.
    """
    _refuse_unsupported(config, path)
    read = ConfigReader(config)
    defaults = _defaults(config)
    hidden_size, n_heads = read.integer("hidden_size"), read.integer("num_attention_heads")
    # A missing key has the class's default, null means one per head.
    absent = "num_key_value_heads" not in config and defaults.n_kv_heads
    n_kv_heads = read.integer("num_key_value_heads", absent or n_heads)
    head_dim = read.integer("head_dim", max(1, hidden_size // n_heads))
    rope = _rope(config, read)
    params = LlamaParams(
        hidden_size=hidden_size,
        intermediate_size=read.integer("intermediate_size"),
        n_layers=read.integer("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        states_head_dim=config.get("head_dim") is not None or defaults.states_head_dim,
        vocab_size=read.integer("vocab_size"),
        context_length=read.integer("max_position_embeddings", defaults.context_length),
        rms_norm_eps=read.number("rms_norm_eps", defaults.rms_norm_eps),
        rope_theta=read.number("rope_theta", defaults.rope_theta, rope),
        rope_type=str(rope.get("rope_type", "default")),
        rope=rope,
        tied_embeddings=read.flag("tie_word_embeddings"),
        attention_bias=read.flag("attention_bias"),
        mlp_bias=read.flag("mlp_bias"),
        **_experts(read, defaults),
        sliding_window=_sliding_window(read, defaults),
    )
    for key, count, most in (
        ("num_hidden_layers", params.n_layers, MAX_LAYERS),
        ("num_local_experts", params.n_experts or 0, MAX_EXPERTS),
    ):
        if count > most:
            read.faults.append(f"{key} = {count}, llama.cpp's limit is {most}")
    if params.n_experts and (params.n_experts_used or 0) > params.n_experts:
        read.faults.append(
            f"num_experts_per_tok {params.n_experts_used} is more than "
            f"num_local_experts {params.n_experts}"
        )
    if not read.faults:
        _check_heads(config, params, read)
    if read.faults:
        raise ParamsError(
            f"{path}: {'; '.join(read.faults)}",
            hint="The file was edited or belongs to another model; fetch it again.",
        )
    _check_rope(params, path)
    return params


def _check_rope(params: LlamaParams, path: Path) -> None:
    problem = None
    if params.rope_type not in _ROPE_TYPES:
        problem = f"rope type {params.rope_type!r}; supported are {', '.join(_ROPE_TYPES)}"
    elif params.rope_type == "yarn":
        for key, fixed in _FIXED_YARN.items():
            if params.rope.get(key, fixed) != fixed:
                problem = f"YaRN with {key} {params.rope[key]!r}; supported is {fixed!r}"
    if problem is not None:
        raise UnsupportedError(
            f"{path}: {problem}",
            hint="This checkpoint computes positions in a way llama.cpp's LLaMA does not know.",
        )


def _check_heads(config: Mapping[str, Any], params: LlamaParams, read: ConfigReader) -> None:
    if params.n_heads % params.n_kv_heads:
        read.faults.append(
            f"num_attention_heads {params.n_heads} is no multiple of num_key_value_heads "
            f"{params.n_kv_heads}"
        )
    if config.get("head_dim") is None and params.hidden_size % params.n_heads:
        read.faults.append(
            f"hidden_size {params.hidden_size} is no multiple of num_attention_heads "
            f"{params.n_heads}"
        )
    if params.head_dim % 2:
        read.faults.append(f"head_dim {params.head_dim} is odd, rope needs pairs")


def _architecture(config: Mapping[str, Any]) -> Any:
    """Return the architecture, which the model type implies when it is missing."""
    architectures = config.get("architectures")
    if not architectures and config.get("model_type") in _DEFAULTS:
        return f"{config['model_type'].capitalize()}ForCausalLM"
    return architectures[0] if isinstance(architectures, list) and architectures else architectures


def _defaults(config: Mapping[str, Any]) -> _Defaults:
    """Return the defaults of the model type, which the architecture implies when it is missing."""
    architecture = _architecture(config).removesuffix("ForCausalLM").lower()
    model_type = str(config.get("model_type"))
    return _DEFAULTS[model_type if model_type in _DEFAULTS else architecture]


def _experts(read: ConfigReader, defaults: _Defaults) -> dict[str, int | None]:
    if defaults.n_experts is None:
        return {"n_experts": None, "n_experts_used": None}
    return {
        "n_experts": read.integer("num_local_experts", defaults.n_experts),
        "n_experts_used": read.integer("num_experts_per_tok", defaults.n_experts_used),
    }


def _sliding_window(read: ConfigReader, defaults: _Defaults) -> int | None:
    absent = "sliding_window" not in read.config and defaults.sliding_window
    if not defaults.has_window or not (absent or read.config.get("sliding_window")):
        return None
    return read.integer("sliding_window", absent or None)


def _refuse_unsupported(config: Mapping[str, Any], path: Path) -> None:
    name = _architecture(config)
    if name not in SUPPORTED_ARCHITECTURES:
        raise UnsupportedError(
            f"{path}: architecture {name!r}; supported are {', '.join(SUPPORTED_ARCHITECTURES)}",
            hint="Use a checkpoint of the LLaMA family: Llama, CodeLlama, Mistral, Mixtral and "
            "what was trained from them.",
        )
    model_type = str(config.get("model_type"))
    if model_type in _OTHER_TYPES:
        raise UnsupportedError(
            f"{path}: architecture {name!r} contradicts model_type {model_type!r}",
            hint="The weights are of one of the two; if they are a LLaMA's, correct model_type.",
        )
    activation = config.get("hidden_act", "silu")
    if activation not in {"silu", "swish"}:  # two names of one function
        raise UnsupportedError(
            f"{path}: hidden_act {activation!r}; llama.cpp computes silu for LLaMA",
            hint="A file with another activation would load and talk nonsense.",
        )
    if config.get("is_causal") is False:
        raise UnsupportedError(
            f"{path}: is_causal is false; such a model embeds texts, it does not generate any",
            hint="Use llama.cpp's convert_hf_to_gguf.py for embedding models.",
        )


def _rope(config: Mapping[str, Any], read: ConfigReader) -> dict[str, Any]:
    """Merge transformers 5's ``rope_parameters`` and the older ``rope_scaling``/``rope_theta``."""
    new, old = (config.get(key) or {} for key in ("rope_parameters", "rope_scaling"))
    if not isinstance(new, dict) or not isinstance(old, dict):
        read.faults.append("rope_parameters/rope_scaling is not an object")
        return {}
    if any(isinstance(value, dict) for value in new.values()):
        read.faults.append("rope_parameters differ by kind of layer")
    if "type" in old:  # the name before transformers 4.43
        old = {"rope_type": old["type"], **old}
    different = [key for key in old if key in new and old[key] != new[key]]
    if different:
        read.faults.append(f"rope_parameters and rope_scaling differ in {', '.join(different)}")
    rope = {**old, **new}
    rope.setdefault("rope_theta", config.get("rope_theta"))
    if config.get("original_max_position_embeddings") is not None:
        rope.setdefault(
            "original_max_position_embeddings", config["original_max_position_embeddings"]
        )
    if rope.get("rope_type") in {"linear", "yarn", "llama3"}:
        if rope.get("factor") is None:
            read.faults.append(f"rope type {rope['rope_type']} without 'factor'")
        for key in _ROPE_NUMBERS:
            read.number(key, 1.0, rope)
    if rope.get("rope_type") == "yarn":
        rope.setdefault("original_max_position_embeddings", config.get("max_position_embeddings"))
    return {key: value for key, value in rope.items() if value is not None}
