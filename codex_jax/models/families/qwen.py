"""Qwen2 (Yang et al. 2024) and Qwen3 (Yang et al. 2025): Llama with biases on the heads' products, or norms behind."""

from codex_jax.models.architecture import Architecture, Kind
from codex_jax.models.families.family import SIZES, Family, read_llama_like, weights_llama_like, windowed
from codex_jax.models.published import Published


def read_qwen2(config: Published) -> Architecture:
    """Return the architecture of a config.json."""
    return read_llama_like(config, qkv_bias=True, layers=_layers(config))


def read_qwen3(config: Published) -> Architecture:
    """Return the architecture of a config.json."""
    bias = config.flag("attention_bias", False)
    return read_llama_like(config, head_dim=128, qkv_bias=bias, out_bias=bias, qk_norm=True, layers=_layers(config))


def _layers(config: Published) -> tuple[Kind, ...]:
    """Return the kinds of the layers: those from max_window_layers on have the window, if it is used."""
    whole = Kind(rope=config.rope())
    if not config.flag("use_sliding_window", False) or config.values.get("sliding_window") is None:
        return windowed(config, whole, whole, lambda layer: False)
    first = config.count("max_window_layers", 28)
    near = whole._replace(window=config.count("sliding_window"))
    return windowed(config, whole, near, lambda layer: layer >= first)


QWEN2 = Family(
    name="qwen2",
    read=read_qwen2,
    sizes=SIZES,
    weights=weights_llama_like,
    prefix="model.",
    network="Qwen2ForCausalLM",
)
QWEN3 = QWEN2._replace(name="qwen3", read=read_qwen3, network="Qwen3ForCausalLM")
