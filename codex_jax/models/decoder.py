"""A decoder-only transformer of stacked blocks: parameters of all layers in one array, one scan over them.

`Stack` and the parts of a block serve the encoder as well.

B batch · L length · M length of the keys · D model · H heads · G heads of keys and values · K head dim · F inner width
N layers
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from codex_jax.models import attention, products, rope
from codex_jax.models.architecture import Architecture, Kind, Treatment
from codex_jax.models.attention import Sight
from codex_jax.models.layers import Dense, Embedding, Norm, activate, dropout


class Layer(NamedTuple):
    """What a block must know of its kind."""

    window: int | jax.Array
    rotation_2BLF: jax.Array | None
    """cosine and sine of the positions; None where they are learnt"""


class Memory(NamedTuple):
    """Keys and values of the positions already read by one layer; in this order of axes they are read in rows."""

    keys_BGMK: jax.Array
    values_BGMK: jax.Array

    def written(self, keys_BLGK: jax.Array, values_BLGK: jax.Array, place: jax.Array) -> "Memory":
        """Return the memory with those of L more positions, from a place on."""
        new = (keys_BLGK, values_BLGK)
        return Memory(
            *(
                jax.lax.dynamic_update_slice_in_dim(kept, jnp.swapaxes(part, 1, 2), place, axis=2)
                for kept, part in zip(self, new, strict=True)
            )
        )


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, shape: Architecture, how: Treatment, rngs: nnx.Rngs):
        self.shape, self.how = shape, how
        heads, groups = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim

        def make(inputs: int, *features: int, bias: bool, stddev: float = shape.init_stddev) -> Dense:
            return Dense(inputs, features, bias=bias, stddev=stddev, dtype=how.dtype, rngs=rngs)

        if shape.fused_qkv:
            self.qkv = make(shape.width, 3, heads, bias=shape.qkv_bias)
        else:
            self.query = make(shape.width, heads, bias=shape.qkv_bias)
            self.key = make(shape.width, groups, bias=shape.qkv_bias)
            self.value = make(shape.width, groups, bias=shape.qkv_bias)
        if shape.qk_norm:
            self.query_norm = Norm(shape.norm, shape.head_dim, epsilon=shape.norm_epsilon)
            self.key_norm = Norm(shape.norm, shape.head_dim, epsilon=shape.norm_epsilon)
        self.out = make(heads, shape.width, bias=shape.out_bias, stddev=shape.residual_stddev)

    def __call__(
        self, hidden_BLD: jax.Array, sight: Sight, layer: Layer, memory: Memory | None = None
    ) -> tuple[jax.Array, Memory | None]:
        """Return what is read, and the memory with the keys and values of these positions written to their places."""
        query_BLHK, key_BLGK, value_BLGK = self._heads(hidden_BLD)
        if self.shape.qk_norm:
            query_BLHK, key_BLGK = self.query_norm(query_BLHK), self.key_norm(key_BLGK)
        if layer.rotation_2BLF is not None:
            query_BLHK, key_BLGK = (rope.rotate(part, layer.rotation_2BLF) for part in (query_BLHK, key_BLGK))
        if memory is None:
            read_BLHK = attention.attend(
                query_BLHK,
                key_BLGK,
                value_BLGK,
                sight,
                window=layer.window,
                scale=self.shape.query_scale,
                dtype=self.how.dtype,
                implementation=self.how.attention,
            )
        else:
            assert sight.places_L is not None
            key_BLGK, value_BLGK = (products.rounded(part, self.how.dtype) for part in (key_BLGK, value_BLGK))
            memory = memory.written(key_BLGK, value_BLGK, sight.places_L[0])
            read_BLHK = attention.recall(
                query_BLHK, *memory, sight, window=layer.window, scale=self.shape.query_scale, dtype=self.how.dtype
            )
        return self.out(keep(read_BLHK.reshape(*hidden_BLD.shape[:2], -1), self.how.dtype)), memory

    def _heads(self, hidden_BLD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        batch, length, _ = hidden_BLD.shape
        if self.shape.fused_qkv:
            qkv_BL3HK = keep(self.qkv(hidden_BLD), self.how.dtype).reshape(
                batch, length, 3, self.shape.num_heads, self.shape.head_dim
            )
            return qkv_BL3HK[:, :, 0], qkv_BL3HK[:, :, 1], qkv_BL3HK[:, :, 2]
        query_BLHK, key_BLGK, value_BLGK = (
            keep(product(hidden_BLD), self.how.dtype).reshape(batch, length, -1, self.shape.head_dim)
            for product in (self.query, self.key, self.value)
        )
        return query_BLHK, key_BLGK, value_BLGK


class Mlp(nnx.Module):
    """Two products with an activation between them; in a gated one a third multiplies what was activated."""

    def __init__(self, shape: Architecture, how: Treatment, rngs: nnx.Rngs):
        self.shape, self.how = shape, how

        def make(inputs: int, features: int, stddev: float) -> Dense:
            return Dense(inputs, (features,), bias=shape.mlp_bias, stddev=stddev, dtype=how.dtype, rngs=rngs)

        if shape.gated:
            self.gate = make(shape.width, shape.mlp_width, shape.init_stddev)
        self.up = make(shape.width, shape.mlp_width, shape.init_stddev)
        self.down = make(shape.mlp_width, shape.width, shape.residual_stddev)

    def __call__(self, hidden_BLD: jax.Array) -> jax.Array:
        inner_BLF = keep(self.up(hidden_BLD), self.how.dtype).astype(jnp.float32)
        if self.shape.gated:
            gate_BLF = keep(self.gate(hidden_BLD), self.how.dtype).astype(jnp.float32)
            return self.down(activate(self.shape.activation, gate_BLF) * inner_BLF)
        return self.down(activate(self.shape.activation, inner_BLF))


class Block(nnx.Module):
    """A pre-norm transformer block."""

    def __init__(self, shape: Architecture, how: Treatment, rngs: nnx.Rngs):
        self.shape, self.how = shape, how

        def norm() -> Norm:
            return Norm(shape.norm, shape.width, epsilon=shape.norm_epsilon)

        self.attention_norm = norm()
        self.attention = Attention(shape, how, rngs)
        self.mlp_norm = norm()
        self.mlp = Mlp(shape, how, rngs)
        if shape.post_norms:
            self.attention_post_norm = norm()
            self.mlp_post_norm = norm()

    def __call__(
        self, hidden_BLD: jax.Array, sight: Sight, layer: Layer, key: jax.Array | None, memory: Memory | None = None
    ) -> tuple[jax.Array, Memory | None]:
        keys = (None, None) if key is None else jax.random.split(key)
        read_BLD, memory = self.attention(self.attention_norm(hidden_BLD), sight, layer, memory)
        if self.shape.post_norms:
            read_BLD = self.attention_post_norm(read_BLD)
        hidden_BLD = hidden_BLD + dropout(read_BLD, self.how.dropout, keys[0])
        hidden_BLD = keep(hidden_BLD, jnp.dtype(jnp.float32))
        inner_BLD = self.mlp(self.mlp_norm(hidden_BLD))
        if self.shape.post_norms:
            inner_BLD = self.mlp_post_norm(inner_BLD)
        return hidden_BLD + dropout(inner_BLD, self.how.dropout, keys[1]), memory


class Stack(nnx.Module):
    """Blocks of all layers, their parameters with an axis N in front, and the scan over them."""

    def __init__(self, make_block: Callable[..., Block], shape: Architecture, how: Treatment, rngs: nnx.Rngs):
        self.shape, self.how = shape, how
        make_blocks = nnx.vmap(lambda rngs: make_block(shape, how, rngs), in_axes=0, out_axes=0)
        self.blocks = make_blocks(rngs.split(shape.num_layers))

    def through(
        self, hidden_BLD: jax.Array, sight: Sight, positions_BL: jax.Array, keys: jax.Array | None
    ) -> jax.Array:
        """Return hidden_BLD after all blocks, float32. With N keys, dropout is on."""
        layers, graphdef, stacked = self._layers(positions_BL), *nnx.split(self.blocks)

        def block(
            hidden_BLD: jax.Array, part: tuple[nnx.State, jax.Array | None, jax.Array | None]
        ) -> tuple[jax.Array, None]:
            parameters, kind, layer_key = part
            return nnx.merge(graphdef, parameters)(hidden_BLD, sight, _of_kind(layers, kind), layer_key)[0], None

        # What is cheap (norms, activations, softmax) is always computed again in the backward pass: saving it costs
        # more memory traffic than it saves arithmetic. With remat the products are, too.
        policies = jax.checkpoint_policies
        policy = policies.nothing_saveable if self.how.remat else policies.save_only_these_names("kept")
        body = jax.checkpoint(block, prevent_cse=False, policy=policy)
        hidden_BLD, _ = jax.lax.scan(body, hidden_BLD, (stacked, self._kinds(), keys), unroll=self.how.scan_unroll)
        return hidden_BLD

    def _layers(self, positions_BL: jax.Array) -> list[Layer]:
        """Return what a block must know, for each kind of layer."""
        return [Layer(kind.window, _rotation(kind, self.shape.head_dim, positions_BL)) for kind in self.shape.kinds]

    def _kinds(self) -> jax.Array | None:
        """Return the number of each layer's kind; None where all are one."""
        kinds = self.shape.kinds
        return None if len(kinds) == 1 else jnp.array([kinds.index(kind) for kind in self.shape.layers])


class Decoder(Stack):
    """Tokens to the hidden states that `head()` turns into logits.

    Parameters: `tokens/embedding` (V, D), `positions/embedding` (L, D) where they are learnt, `blocks/...` with an axis
    N in front, `norm/...`, and `lm_head/embedding` (V, D) where it is not the token embedding.
    """

    def __init__(self, shape: Architecture, how: Treatment, rngs: nnx.Rngs):
        self.tokens = Embedding(shape.vocab_size, shape.width, stddev=shape.init_stddev, rngs=rngs)
        if shape.learned_positions:
            self.positions = Embedding(shape.context_length, shape.width, stddev=shape.position_stddev, rngs=rngs)
        super().__init__(Block, shape, how, rngs)
        self.norm = Norm(shape.norm, shape.width, epsilon=shape.norm_epsilon)
        if not shape.tied:
            self.lm_head = Embedding(shape.vocab_size, shape.width, stddev=shape.init_stddev, rngs=rngs)

    def __call__(
        self, tokens_BL: jax.Array, segments_BL: jax.Array, positions_BL: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Return hidden_BLD after the last norm, float32. With a key, dropout is on."""
        keys = None if key is None else jax.random.split(key, self.shape.num_layers + 1)
        hidden_BLD = dropout(
            self._embedded(tokens_BL, positions_BL), self.how.dropout, None if keys is None else keys[-1]
        )
        sight = Sight(segments_BL, segments_BL, None)
        return self.norm(self.through(hidden_BLD, sight, positions_BL, None if keys is None else keys[:-1]))

    def extend(
        self,
        layers: Sequence[Mapping[str, Any]] | None,
        tokens_BL: jax.Array,
        positions_BL: jax.Array,
        sight: Sight,
        memories: Sequence[Memory],
    ) -> tuple[jax.Array, tuple[Memory, ...]]:
        """Return hidden_BLD of tokens that follow those in the memories, and these with them, at sight.places_L.

        `layers` are the parameters of the blocks one by one, kernels as `Dense.is_turned` has them; those of the module
        itself are not read then. Without them each block is copied out of the stack when its turn comes.
        """
        hidden_BLD, kinds = self._embedded(tokens_BL, positions_BL), self._layers(positions_BL)
        graphdef, written = nnx.graphdef(self.blocks), []
        for index, (kind, kept) in enumerate(zip(self.shape.layers, memories, strict=True)):
            block = nnx.merge(graphdef, layers[index] if layers else self._layer(index, hidden_BLD))
            block.set_attributes(is_writing=True, is_turned=layers is not None)
            hidden_BLD, memory = block(hidden_BLD, sight, kinds[self.shape.kinds.index(kind)], None, kept)
            written.append(memory)
        return self.norm(hidden_BLD), tuple(written)

    def _layer(self, index: int, hidden_BLD: jax.Array) -> nnx.State:
        """Return the parameters of one block, copied after `hidden_BLD` is known: not all of them beforehand."""
        stacked, _ = jax.lax.optimization_barrier((nnx.state(self.blocks), hidden_BLD))
        block: nnx.State = jax.tree.map(lambda leaf: leaf[index], stacked)
        return block

    def empty_memories(self, batch: int, length: int) -> tuple[Memory, ...]:
        """Return a memory for `length` tokens of `batch` sequences, for each layer."""
        shape = (batch, self.shape.num_kv_heads, length, self.shape.head_dim)
        kept = products.kept_as(self.how.dtype)
        return tuple(Memory(jnp.zeros(shape, kept), jnp.zeros(shape, kept)) for _ in self.shape.layers)

    def head(self) -> jax.Array:
        """Return the matrix whose rows score the tokens."""
        return (self.tokens if self.shape.tied else self.lm_head).embedding[...]

    def _embedded(self, tokens_BL: jax.Array, positions_BL: jax.Array) -> jax.Array:
        hidden_BLD = self.tokens(tokens_BL)
        if self.shape.embedding_scale != 1.0:
            hidden_BLD = hidden_BLD * self.shape.embedding_scale
        return hidden_BLD + self.positions(positions_BL) if self.shape.learned_positions else hidden_BLD


def _rotation(kind: Kind, head_dim: int, positions_BL: jax.Array) -> jax.Array | None:
    return None if kind.rope is None else rope.rotation(kind.rope, head_dim, positions_BL)


def _of_kind(layers: list[Layer], kind: jax.Array | None) -> Layer:
    """Return the layer of a kind that only the scan knows."""
    if kind is None:
        return layers[0]
    return jax.tree.map(lambda *values: jnp.stack(values)[kind], *layers)


def keep(activation: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Mark what the backward pass keeps instead of computing it again, in the type that products take anyway."""
    return checkpoint_name(activation.astype(dtype), "kept")
