"""Llama (Touvron et al. 2023; Llama 3: Grattafiori et al. 2024), also TinyLlama and SmolLM."""

from codex_jax.models.architecture import Architecture
from codex_jax.models.families.family import SIZES, Family, read_llama_like, weights_llama_like
from codex_jax.models.published import Published


def read(config: Published) -> Architecture:
    """Return the architecture of a config.json."""
    bias = config.flag("attention_bias", False)
    return read_llama_like(config, qkv_bias=bias, out_bias=bias, mlp_bias=config.flag("mlp_bias", False))


FAMILY = Family(
    name="llama",
    read=read,
    sizes=SIZES,
    weights=weights_llama_like,
    prefix="model.",
    network="LlamaForCausalLM",
    ignored=(r"\.rotary_emb\.inv_freq$",),
)
