"""A decoder-only transformer of stacked blocks: parameters of all layers in one array, one scan over them.

B batch · L length · D model · H heads · K head dim · N layers
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from codex_jax.models import attention
from codex_jax.models.layers import Dense, Embedding, LayerNorm, dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """What fixes a decoder: sizes, types, and how the compiler is to treat it."""

    vocab_size: int
    context_length: int
    num_layers: int
    num_heads: int
    width: int
    dropout: float
    norm_epsilon: float
    init_stddev: float
    position_stddev: float
    dtype: jnp.dtype
    attention: str
    remat: bool
    scan_unroll: int


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, shape: Shape, rngs: nnx.Rngs):
        self.shape = shape
        self.qkv = Dense(shape.width, (3, shape.width), stddev=shape.init_stddev, dtype=shape.dtype, rngs=rngs)
        self.out = Dense(shape.width, (shape.width,), stddev=_residual_stddev(shape), dtype=shape.dtype, rngs=rngs)

    def __call__(self, hidden_BLD: jax.Array, segments_BL: jax.Array) -> jax.Array:
        batch, length, width = hidden_BLD.shape
        qkv_BL3D = _kept(self.qkv(hidden_BLD), self.shape.dtype)
        qkv_BL3HK = qkv_BL3D.reshape(batch, length, 3, self.shape.num_heads, -1)
        read_BLHK = attention.attend(
            qkv_BL3HK[:, :, 0],
            qkv_BL3HK[:, :, 1],
            qkv_BL3HK[:, :, 2],
            segments_BL,
            dtype=self.shape.dtype,
            implementation=self.shape.attention,
        )
        return self.out(_kept(read_BLHK.reshape(batch, length, width), self.shape.dtype))


class Mlp(nnx.Module):
    """Two products with a GELU (tanh form) between them."""

    def __init__(self, shape: Shape, rngs: nnx.Rngs):
        inner = 4 * shape.width
        self.dtype = shape.dtype
        self.up = Dense(shape.width, (inner,), stddev=shape.init_stddev, dtype=shape.dtype, rngs=rngs)
        self.down = Dense(inner, (shape.width,), stddev=_residual_stddev(shape), dtype=shape.dtype, rngs=rngs)

    def __call__(self, hidden_BLD: jax.Array) -> jax.Array:
        inner_BLF = _kept(self.up(hidden_BLD), self.dtype).astype(jnp.float32)
        return self.down(jax.nn.gelu(inner_BLF, approximate=True))


class Block(nnx.Module):
    """A pre-norm transformer block."""

    def __init__(self, shape: Shape, rngs: nnx.Rngs):
        self.rate = shape.dropout
        self.attention_norm = LayerNorm(shape.width, epsilon=shape.norm_epsilon)
        self.attention = Attention(shape, rngs)
        self.mlp_norm = LayerNorm(shape.width, epsilon=shape.norm_epsilon)
        self.mlp = Mlp(shape, rngs)

    def __call__(self, hidden_BLD: jax.Array, segments_BL: jax.Array, key: jax.Array | None) -> jax.Array:
        keys = (None, None) if key is None else jax.random.split(key)
        read_BLD = self.attention(self.attention_norm(hidden_BLD), segments_BL)
        hidden_BLD = _kept(hidden_BLD + dropout(read_BLD, self.rate, keys[0]), jnp.dtype(jnp.float32))
        return hidden_BLD + dropout(self.mlp(self.mlp_norm(hidden_BLD)), self.rate, keys[1])


class Decoder(nnx.Module):
    """Tokens to the hidden states that `head()` turns into logits.

    Parameters: `tokens/embedding` (V, D), `positions/embedding` (L, D), `blocks/...` with a leading axis N, `norm/...`.
    """

    def __init__(self, shape: Shape, rngs: nnx.Rngs):
        self.shape = shape
        self.tokens = Embedding(shape.vocab_size, shape.width, stddev=shape.init_stddev, rngs=rngs)
        self.positions = Embedding(shape.context_length, shape.width, stddev=shape.position_stddev, rngs=rngs)
        make_blocks = nnx.vmap(lambda rngs: Block(shape, rngs), in_axes=0, out_axes=0)
        self.blocks = make_blocks(rngs.split(shape.num_layers))
        self.norm = LayerNorm(shape.width, epsilon=shape.norm_epsilon)

    def __call__(
        self, tokens_BL: jax.Array, segments_BL: jax.Array, positions_BL: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Return hidden_BLD after the last norm, float32. With a key, dropout is on."""
        shape = self.shape
        keys = None if key is None else jax.random.split(key, shape.num_layers + 1)
        hidden_BLD = self.tokens(tokens_BL) + self.positions(positions_BL)
        hidden_BLD = dropout(hidden_BLD, shape.dropout, None if keys is None else keys[-1])
        graphdef, stacked = nnx.split(self.blocks)

        def block(hidden_BLD: jax.Array, layer: tuple[nnx.State, jax.Array | None]) -> tuple[jax.Array, None]:
            parameters, layer_key = layer
            return nnx.merge(graphdef, parameters)(hidden_BLD, segments_BL, layer_key), None

        # What is cheap (norms, GELU, softmax) is always computed again in the backward pass: saving it costs more
        # memory traffic than it saves arithmetic. With remat the products are, too.
        policies = jax.checkpoint_policies
        policy = policies.nothing_saveable if shape.remat else policies.save_only_these_names("kept")
        body = jax.checkpoint(block, prevent_cse=False, policy=policy)
        layer_keys = None if keys is None else keys[:-1]
        hidden_BLD, _ = jax.lax.scan(body, hidden_BLD, (stacked, layer_keys), unroll=shape.scan_unroll)
        return self.norm(hidden_BLD)

    def head(self) -> jax.Array:
        """Return the matrix whose rows score the tokens; GPT-2 ties it to the token embedding."""
        return self.tokens.embedding[...]


def _kept(activation: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Mark what the backward pass keeps instead of computing it again, in the type that products take anyway."""
    return checkpoint_name(activation.astype(dtype), "kept")


def _residual_stddev(shape: Shape) -> float:
    # Two additions to the residual stream a layer; scaled so that its variance does not grow with depth.
    return shape.init_stddev * (2 * shape.num_layers) ** -0.5
