"""Gemma 3, the text model (Gemma Team 2025): windows of attention in most layers, norms on both sides."""

from codex_jax.models.architecture import Architecture, Kind
from codex_jax.models.families.family import SIZES, Family, read_llama_like, weights_llama_like, windowed
from codex_jax.models.published import Published


def read(config: Published) -> Architecture:
    """Return the architecture of a config.json."""
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        config.refuse(name)
    config.refuse("use_bidirectional_attention", False)
    bias = config.flag("attention_bias", False)
    return read_llama_like(
        config,
        tied=True,
        head_dim=256,
        norm="rms_plus_one",
        activation=config.choice("hidden_activation", {"gelu_pytorch_tanh": "gelu_tanh"}, "gelu_pytorch_tanh"),
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=True,
        post_norms=True,
        query_scale=config.number("query_pre_attn_scalar", 256.0) ** -0.5,
        embedding_scale=config.count("hidden_size") ** 0.5,
        layers=_layers(config),
    )


def _layers(config: Published) -> tuple[Kind, ...]:
    """Return the kinds of the layers: every sixth sees everything, by rotations of its own."""
    window = config.count("sliding_window", 4096)
    given = config.mapping("rope_parameters") or {
        "full_attention": {"rope_theta": 1e6, **config.mapping("rope_scaling")}
        | ({"rope_theta": config.values["rope_theta"]} if "rope_theta" in config.values else {}),
        "sliding_attention": {"rope_theta": config.values.get("rope_local_base_freq", 1e4)},
    }
    both = ("full_attention", "sliding_attention")
    if not all(isinstance(given.get(name), dict) for name in both):
        raise config.wrong("rope_parameters", f"an object with the objects {' and '.join(both)}")
    whole, near = (Kind(window, config.rope(given[name])) for name, window in zip(both, (0, window), strict=True))
    pattern = config.count("sliding_window_pattern", config.count("_sliding_window_pattern", 6))
    return windowed(config, whole, near, lambda layer: (layer + 1) % pattern != 0)


FAMILY = Family(
    name="gemma3_text",
    read=read,
    sizes=SIZES,
    weights=weights_llama_like,
    prefix="model.",
    network="Gemma3ForCausalLM",
)
