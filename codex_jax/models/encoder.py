"""A transformer whose tokens see those behind them as well: BERT (Devlin et al. 2018), for whole texts.

B batch · L length · T tokens that are asked for · D model · V vocabulary · C classes · N stacked layers
"""

import jax
import jax.numpy as jnp
from flax import nnx

from codex_jax.models.architecture import Architecture, Treatment
from codex_jax.models.attention import Sight
from codex_jax.models.decoder import Block, Layer, Memory, Stack, keep
from codex_jax.models.layers import Dense, Embedding, Norm, activate, dropout


class PostNormBlock(Block):
    """A block whose norms stand behind the sums."""

    def __call__(
        self, hidden_BLD: jax.Array, sight: Sight, layer: Layer, key: jax.Array | None, memory: Memory | None = None
    ) -> tuple[jax.Array, Memory | None]:
        keys = (None, None) if key is None else jax.random.split(key)
        read_BLD, memory = self.attention(hidden_BLD, sight, layer, memory)
        hidden_BLD = self.attention_norm(_summed(hidden_BLD, dropout(read_BLD, self.how.dropout, keys[0])))
        inner_BLD = dropout(self.mlp(hidden_BLD), self.how.dropout, keys[1])
        return self.mlp_norm(_summed(hidden_BLD, inner_BLD)), memory


def _summed(hidden_BLD: jax.Array, more_BLD: jax.Array) -> jax.Array:
    # What a norm reads is kept: else the backward pass would multiply once more for it.
    return keep(hidden_BLD + more_BLD, jnp.dtype(jnp.float32))


class Encoder(Stack):
    """Tokens to hidden states, and what its ending makes of them.

    Parameters: `tokens/embedding` (V, D), `positions/embedding` (L, D), `types/embedding`, `embedding_norm/...`,
    `blocks/...` with an axis N in front; of ending=hidden `transform/...`, `transform_norm/...`, `head_bias/bias` (V,)
    and, where it is not the token embedding, `lm_head/embedding` (V, D); of the others `pooler/...`, `classifier/...`.
    """

    def __init__(self, shape: Architecture, how: Treatment, rngs: nnx.Rngs):
        def table(rows: int, stddev: float) -> Embedding:
            return Embedding(rows, shape.width, stddev=stddev, rngs=rngs)

        def dense(features: int) -> Dense:
            return Dense(shape.width, (features,), bias=True, stddev=shape.init_stddev, dtype=how.dtype, rngs=rngs)

        self.tokens = table(shape.vocab_size, shape.init_stddev)
        self.positions = table(shape.context_length, shape.position_stddev)
        self.types = table(shape.token_types, shape.init_stddev)
        self.embedding_norm = Norm(shape.norm, shape.width, epsilon=shape.norm_epsilon)
        super().__init__(PostNormBlock, shape, how, rngs)
        if shape.ending == "hidden":
            self.transform = dense(shape.width)
            self.transform_norm = Norm(shape.norm, shape.width, epsilon=shape.norm_epsilon)
            self.head_bias = Bias(shape.vocab_size)
            if not shape.tied:
                self.lm_head = table(shape.vocab_size, shape.init_stddev)
        if shape.ending in ("pooled", "classes"):
            self.pooler = dense(shape.width)
        if shape.ending == "classes":
            self.classifier = dense(shape.num_labels)

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array,
        positions_BL: jax.Array,
        key: jax.Array | None = None,
        types_BL: jax.Array | None = None,
    ) -> jax.Array:
        """Return hidden_BLD of the last block, float32; without types all tokens are of the first sentence.

        With a key, dropout is on.
        """
        keys = None if key is None else jax.random.split(key, self.shape.num_layers + 1)
        types = self.types.embedding[...][:1][None] if types_BL is None else self.types(types_BL)
        embedded_BLD = self.embedding_norm(self.tokens(tokens_BL) + self.positions(positions_BL) + types)
        hidden_BLD = dropout(embedded_BLD, self.how.dropout, None if keys is None else keys[-1])
        sight = Sight(segments_BL, segments_BL, None, causal=False)
        return self.through(hidden_BLD, sight, positions_BL, None if keys is None else keys[:-1])

    def before_head(self, hidden_BTD: jax.Array) -> jax.Array:
        """Return what `head()` and `head_bias` turn into the logits of hidden tokens."""
        inner_BTD = self.transform(hidden_BTD).astype(jnp.float32)
        return self.transform_norm(activate(self.shape.activation, inner_BTD))

    def head(self) -> jax.Array:
        """Return the matrix whose rows score the tokens."""
        return (self.tokens if self.shape.tied else self.lm_head).embedding[...]

    def pooled(self, hidden_BLD: jax.Array) -> jax.Array:
        """Return what the first token says of each row, (B, D)."""
        return jnp.tanh(self.pooler(hidden_BLD[:, 0]).astype(jnp.float32))

    def classes(self, hidden_BLD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return the logits of each row, one for each label (B, C), float32; with a key, dropout is on."""
        return self.classifier(dropout(self.pooled(hidden_BLD), self.how.dropout, key)).astype(jnp.float32)


class Bias(nnx.Module):
    """A number for each row of a table."""

    def __init__(self, rows: int):
        self.bias = nnx.Param(jnp.zeros(rows))
