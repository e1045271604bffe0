"""What one architecture family adds: how its config.json is read, and how its weights are called there and here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flax import nnx

from codex_jax.models.architecture import Architecture, Kind, Treatment
from codex_jax.models.decoder import Decoder
from codex_jax.models.published import Published


class Weight(NamedTuple):
    """One leaf here and the tensors it is made of there."""

    leaf: str
    """as in `blocks/mlp/up/kernel`"""
    name: str
    """of the tensor; with {layer} in it the leaf stacks those of all layers"""
    transposed: bool = False
    """kept there as (out, in), as by torch's Linear; here kernels are (in, out)"""


class Family(NamedTuple):
    """An architecture family: built-in ones are registered in `build`, others are entry points of codex_jax.models."""

    name: str
    """`model_type` in config.json"""
    read: Callable[[Published], Architecture]
    sizes: Mapping[str, str]
    """the field of config.json for each of the sizes in our configuration that it has"""
    weights: Callable[[Architecture], Sequence[Weight]]
    prefix: str
    """of tensor names; checkpoints of the bare model lack it"""
    ignored: Sequence[str] = ()
    """regular expressions of tensors that hold no weights"""
    endings: Mapping[str, str] = {}
    """of the endings an architecture may have, the word in `architectures` of config.json; empty where there is one"""
    network: str = ""
    """the class of transformers that a config.json without `architectures` is for"""
    make: Callable[[Architecture, Treatment, nnx.Rngs], Any] = Decoder


def dense(leaf: str, name: str, *, bias: bool, transposed: bool = True) -> list[Weight]:
    """Return the rows of a product."""
    kernel = Weight(f"{leaf}/kernel", f"{name}.weight", transposed)
    return [kernel, Weight(f"{leaf}/bias", f"{name}.bias")] if bias else [kernel]


MOST_LAYERS = 1024
# The sizes of most families; they were named for Llama.
SIZES = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "width": "hidden_size",
    "mlp_width": "intermediate_size",
}


def windowed(config: Published, whole: Kind, near: Kind, is_near: Callable[[int], bool]) -> tuple[Kind, ...]:
    """Return the kinds of the layers by `layer_types`, else as `is_near` says of each."""
    depth = config.count("num_hidden_layers", high=MOST_LAYERS)
    kinds = config.words("layer_types", {"full_attention": whole, "sliding_attention": near}, depth)
    return kinds or tuple(near if is_near(layer) else whole for layer in range(depth))


def read_llama_like(config: Published, *, tied: bool = False, head_dim: int | None = None, **more: Any) -> Architecture:
    """Return the architecture of a config.json in Llama's words; `more` are fields in which a family differs.

    `tied` and `head_dim` are what the family takes where the file does not say.
    """
    width, heads = config.count("hidden_size"), config.count("num_attention_heads")
    head_dim = config.count("head_dim", head_dim or max(1, width // heads))
    groups = config.count("num_key_value_heads", heads)
    if heads % groups:
        raise config.wrong("num_key_value_heads", f"a divisor of num_attention_heads={heads}")
    if head_dim % 2:
        raise config.wrong("head_dim", "even, since rotary positions turn pairs")
    depth = config.count("num_hidden_layers", high=MOST_LAYERS)
    stddev = config.number("initializer_range", 0.02)
    fields = {
        "vocab_size": config.count("vocab_size"),
        "context_length": config.count("max_position_embeddings"),
        "width": width,
        "num_heads": heads,
        "num_kv_heads": groups,
        "head_dim": head_dim,
        "mlp_width": config.count("intermediate_size"),
        "norm": "rms",
        "norm_epsilon": config.number("rms_norm_eps", 1e-6),
        "gated": True,
        "query_scale": head_dim**-0.5,
        "tied": config.flag("tie_word_embeddings", tied),
        "init_stddev": stddev,
        "residual_stddev": stddev,
    } | more
    if "layers" not in fields:
        fields["layers"] = (Kind(rope=config.rope()),) * depth
    if "activation" not in fields:
        fields["activation"] = config.choice("hidden_act", {"silu": "silu"}, "silu")
    return Architecture(**fields)


def weights_llama_like(shape: Architecture) -> list[Weight]:
    """Return the table of weights of a model in Llama's words."""
    block = "model.layers.{layer}"
    heads = f"{block}.self_attn"
    rows = [
        Weight("tokens/embedding", "model.embed_tokens.weight"),
        *dense("blocks/attention/query", f"{heads}.q_proj", bias=shape.qkv_bias),
        *dense("blocks/attention/key", f"{heads}.k_proj", bias=shape.qkv_bias),
        *dense("blocks/attention/value", f"{heads}.v_proj", bias=shape.qkv_bias),
        *dense("blocks/attention/out", f"{heads}.o_proj", bias=shape.out_bias),
        *dense("blocks/mlp/gate", f"{block}.mlp.gate_proj", bias=shape.mlp_bias),
        *dense("blocks/mlp/up", f"{block}.mlp.up_proj", bias=shape.mlp_bias),
        *dense("blocks/mlp/down", f"{block}.mlp.down_proj", bias=shape.mlp_bias),
        Weight("blocks/attention_norm/scale", f"{block}.input_layernorm.weight"),
        Weight("norm/scale", "model.norm.weight"),
    ]
    if shape.post_norms:  # Gemma: what Llama calls post_attention_layernorm is a norm before the MLP
        rows += [
            Weight("blocks/attention_post_norm/scale", f"{block}.post_attention_layernorm.weight"),
            Weight("blocks/mlp_norm/scale", f"{block}.pre_feedforward_layernorm.weight"),
            Weight("blocks/mlp_post_norm/scale", f"{block}.post_feedforward_layernorm.weight"),
        ]
    else:
        rows.append(Weight("blocks/mlp_norm/scale", f"{block}.post_attention_layernorm.weight"))
    if shape.qk_norm:
        rows += [
            Weight("blocks/attention/query_norm/scale", f"{heads}.q_norm.weight"),
            Weight("blocks/attention/key_norm/scale", f"{heads}.k_norm.weight"),
        ]
    if not shape.tied:
        rows.append(Weight("lm_head/embedding", "lm_head.weight"))
    return rows
