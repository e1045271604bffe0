"""Mistral (Jiang et al. 2023, "Mistral 7B"): Llama with a window of attention."""

from codex_jax.models.architecture import Architecture, Kind
from codex_jax.models.families.family import MOST_LAYERS, SIZES, Family, read_llama_like, weights_llama_like
from codex_jax.models.published import Published


def read(config: Published) -> Architecture:
    """Return the architecture of a config.json; sliding_window=null sees everything."""
    window = 0 if config.values.get("sliding_window") is None else config.count("sliding_window")
    layers = (Kind(window, config.rope()),) * config.count("num_hidden_layers", high=MOST_LAYERS)
    return read_llama_like(config, layers=layers)


FAMILY = Family(
    name="mistral",
    read=read,
    sizes=SIZES,
    weights=weights_llama_like,
    prefix="model.",
    network="MistralForCausalLM",
)
