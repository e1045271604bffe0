"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners")."""

from codex_jax.models.architecture import Architecture, Kind
from codex_jax.models.families.family import MOST_LAYERS, Family, Weight, dense
from codex_jax.models.published import Published


def read(config: Published) -> Architecture:
    """Return the architecture of a config.json.

    Initial values are those of the published code: normal with deviation 0.02, positions 0.01, the two products that
    write to the residual stream divided by sqrt(2 x layers), biases zero.
    """
    width, heads, depth = config.count("n_embd"), config.count("n_head"), config.count("n_layer", high=MOST_LAYERS)
    if width % heads:
        raise config.wrong("n_embd", f"a multiple of n_head={heads}")
    config.refuse("scale_attn_weights", True)
    for name in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        config.refuse(name, False)
    stddev = config.number("initializer_range", 0.02)
    return Architecture(
        vocab_size=config.count("vocab_size"),
        context_length=config.count("n_positions"),
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        mlp_width=config.count("n_inner", 4 * width),
        layers=(Kind(),) * depth,
        norm="layer",
        norm_epsilon=config.number("layer_norm_epsilon", 1e-5),
        activation=config.choice("activation_function", _ACTIVATIONS, "gelu_new"),
        gated=False,
        fused_qkv=True,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        query_scale=(width // heads) ** -0.5,
        tied=config.flag("tie_word_embeddings", True),
        init_stddev=stddev,
        residual_stddev=stddev * (2 * depth) ** -0.5,
        position_stddev=stddev / 2,
    )


_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}


def weights(shape: Architecture) -> list[Weight]:
    """Return the table of weights; kernels are (in, out) there, too, as Conv1D keeps them."""
    block = "transformer.h.{layer}"
    rows = [
        Weight("tokens/embedding", "transformer.wte.weight"),
        Weight("positions/embedding", "transformer.wpe.weight"),
    ]
    for leaf, name in (
        ("blocks/attention/qkv", "attn.c_attn"),
        ("blocks/attention/out", "attn.c_proj"),
        ("blocks/mlp/up", "mlp.c_fc"),
        ("blocks/mlp/down", "mlp.c_proj"),
    ):
        rows += dense(leaf, f"{block}.{name}", bias=True, transposed=False)
    for leaf, name in (
        ("blocks/attention_norm", f"{block}.ln_1"),
        ("blocks/mlp_norm", f"{block}.ln_2"),
        ("norm", "transformer.ln_f"),
    ):
        rows += [Weight(f"{leaf}/scale", f"{name}.weight"), Weight(f"{leaf}/bias", f"{name}.bias")]
    return rows if shape.tied else [*rows, Weight("lm_head/embedding", "lm_head.weight")]


FAMILY = Family(
    name="gpt2",
    read=read,
    sizes={
        "vocab_size": "vocab_size",
        "context_length": "n_positions",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "width": "n_embd",
        "mlp_width": "n_inner",
    },
    weights=weights,
    prefix="transformer.",
    network="GPT2LMHeadModel",
    ignored=(r"\.attn\.(bias|masked_bias)$",),
)
