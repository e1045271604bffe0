"""What fixes a transformer: the function it computes, in one set of words for all families, and how it is to be run."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from codex_jax.models.rope import Rope


class Kind(NamedTuple):
    """What may differ from layer to layer."""

    window: int = 0
    """keys that a position sees, its own among them; 0: all before it"""
    rope: Rope | None = None
    """rotary positions; None where positions are learnt"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """The function a model computes. What every family names in its own words is named here once."""

    vocab_size: int
    """rows of the token embedding"""
    context_length: int
    """longest sequence it is meant for, in tokens"""
    width: int
    """size of the residual stream"""
    num_heads: int
    num_kv_heads: int
    """heads of keys and values; each serves num_heads / num_kv_heads heads of queries"""
    head_dim: int
    mlp_width: int
    layers: tuple[Kind, ...]
    """one for each layer"""
    norm: str
    """layer; rms; rms_plus_one, whose scale is stored less one"""
    norm_epsilon: float
    activation: str
    """gelu, gelu_tanh or silu"""
    gated: bool
    """the MLP multiplies two products, the first of them activated"""
    fused_qkv: bool = False
    """queries, keys and values are one product"""
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    """queries and keys are normalised, each head by itself"""
    post_norms: bool = False
    """what attention and MLP give is normalised, too, before it is added"""
    query_scale: float
    """multiplies the scores"""
    embedding_scale: float = 1.0
    """multiplies the token embeddings"""
    tied: bool
    """the head is the token embedding"""
    init_stddev: float
    residual_stddev: float
    """initial deviation of the products that write to the residual stream"""
    position_stddev: float = 0.0
    """of learnt positions"""
    token_types: int = 0
    """of an encoder: rows of a table that is added by the sentence of a pair a token is in"""
    ending: str = "next"
    """what the hidden states become: next, logits of the next token; hidden, of a token that was hidden; classes, of a
    whole row; pooled, what classes are made of"""
    num_labels: int = 0
    """classes of ending=classes"""

    @property
    def objective(self) -> str:
        """What it is trained by, as in data.objective; empty: nothing."""
        return {"next": "causal", "hidden": "masked", "classes": "classes"}.get(self.ending, "")

    @property
    def num_layers(self) -> int:
        """The number of blocks."""
        return len(self.layers)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of layers there are, each once, in the order they are met."""
        return tuple(dict.fromkeys(self.layers))

    @property
    def learned_positions(self) -> bool:
        """Whether positions are looked up in a table of their own."""
        return self.layers[0].rope is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Treatment:
    """How a model is run; none of it changes the function but for rounding, and dropout while training."""

    dropout: float
    dtype: jnp.dtype
    """of the operands of products"""
    attention: str
    """auto, xla or cudnn"""
    remat: bool
    scan_unroll: int
