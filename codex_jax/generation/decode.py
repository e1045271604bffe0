"""Prompts to tokens: a prompt is read at once, then a token at a time beside the keys and values that are kept.

Prompts of a batch end at the same place: what stands before a shorter one is a segment of its own, which no token of
the prompt sees, and positions count from its first token.

B batch · P places of the prompts · M places in all · V vocabulary · D model
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from codex_jax import sharding
from codex_jax.generation.sampling import Choice
from codex_jax.models import build, products
from codex_jax.models.attention import Sight
from codex_jax.models.decoder import Memory


class Weights(NamedTuple):
    """Parameters as decoding reads them: every matrix once a token, in order where there is memory for it."""

    own: dict[str, Any]
    """as the model has them; without the blocks where `layers` has those"""
    layers: tuple[dict[str, Any], ...] | None
    """copies of the blocks one by one, kernels turned and rounded"""
    head_VD: jax.Array | None
    """rounded; None where that of the model itself is read"""


class State(NamedTuple):
    """Where a batch stands; the loop carries it and writes into it."""

    tokens_BM: jax.Array
    """int32, 0 where nothing is yet"""
    starts_B: jax.Array
    """place of the first token of each prompt"""
    done: jax.Array
    """tokens that were chosen, int32"""
    ended_B: jax.Array
    """bool: nothing is added to these rows any more"""
    keys_B: jax.Array
    memories: tuple[Memory, ...]
    seen_BV: jax.Array | None
    """tokens that are in the row already; None where nobody asks"""


class Decoding(NamedTuple):
    """The compiled functions of one model. Each compiles once for a batch size and a bucket of lengths."""

    prepare: Callable[[dict[str, Any]], Weights]
    """`prepare(parameters) -> Weights`, copies that many tokens are written with: they take the model's memory again"""
    begin: Callable[..., State]
    """`begin(weights, choice, tokens_BP, starts_B, keys_B, ends_E, room=room) -> State`: prompts are read and the first
    token is chosen; `room` tokens will fit"""
    go_on: Callable[..., State]
    """`go_on(weights, choice, state, ends_E, ended_B, until, prompt=P) -> State`: until so many tokens are chosen or
    all rows have ended; the state that is given is used up"""


def make(definition: build.Definition, mesh: Mesh) -> Decoding:
    """Return the functions that decode with a model."""
    whole = sharding.replicated(mesh)  # of several processes each reads all rows
    parts = jax.jit(functools.partial(_prepare, definition))

    def prepare(parameters: dict[str, Any]) -> Weights:
        own = {name: part for name, part in parameters.items() if name != "blocks"}
        return Weights(own, *parts(parameters))

    return Decoding(
        prepare,
        jax.jit(functools.partial(_begin, definition), static_argnames="room", out_shardings=whole),
        jax.jit(functools.partial(_go_on, definition), static_argnames="prompt", donate_argnums=2, out_shardings=whole),
    )


def _prepare(definition: build.Definition, parameters: dict[str, Any]) -> tuple[Any, jax.Array | None]:
    model = definition.bind(parameters)
    dtype = model.how.dtype

    def layer(index: int) -> dict[str, Any]:
        def one(path: tuple[Any, ...], stack: jax.Array) -> jax.Array:
            return products.turned(stack[index], dtype) if path[-1].key == "kernel" else stack[index]

        made: dict[str, Any] = jax.tree_util.tree_map_with_path(one, parameters["blocks"])
        return made

    head = None if dtype == products.FLOAT32 else products.rounded(model.head(), dtype)
    return tuple(layer(index) for index in range(definition.shape.num_layers)), head


def _begin(
    definition: build.Definition,
    weights: Weights,
    choice: Choice,
    tokens_BP: jax.Array,
    starts_B: jax.Array,
    keys_B: jax.Array,
    ends_E: jax.Array,
    *,
    room: int,
) -> State:
    batch, length = tokens_BP.shape
    seen_BV = None
    if choice.repetition_penalty is not None:
        is_prompt_BP = jnp.arange(length)[None] >= starts_B[:, None]
        rows_B1 = jnp.arange(batch)[:, None]
        seen_BV = jnp.zeros((batch, definition.shape.vocab_size), bool).at[rows_B1, tokens_BP].max(is_prompt_BP)
    memories = _model(definition, weights).empty_memories(batch, length)
    hidden_BD, memories = _read(definition, weights, tokens_BP, starts_B, memories, jnp.int32(0))
    state = State(
        tokens_BM=jnp.pad(tokens_BP, ((0, 0), (0, room))),
        starts_B=starts_B,
        done=jnp.int32(0),
        ended_B=starts_B == length,  # rows without a prompt only fill up the batch
        keys_B=keys_B,
        memories=jax.tree.map(lambda kept: jnp.pad(kept, ((0, 0), (0, 0), (0, room), (0, 0))), memories),
        seen_BV=seen_BV,
    )
    return _chosen(definition, weights, choice, state, hidden_BD, ends_E, length)


def _go_on(
    definition: build.Definition,
    weights: Weights,
    choice: Choice,
    state: State,
    ends_E: jax.Array,
    ended_B: jax.Array,
    until: jax.Array,
    *,
    prompt: int,
) -> State:
    def is_unfinished(state: State) -> jax.Array:
        return (state.done < until) & ~jnp.all(state.ended_B)

    def step(state: State) -> State:
        place = prompt + state.done - 1
        last_B1 = jax.lax.dynamic_slice_in_dim(state.tokens_BM, place, 1, axis=1)
        hidden_BD, memories = _read(definition, weights, last_B1, state.starts_B, state.memories, place)
        return _chosen(definition, weights, choice, state._replace(memories=memories), hidden_BD, ends_E, prompt)

    return jax.lax.while_loop(is_unfinished, step, state._replace(ended_B=state.ended_B | ended_B))


def _read(
    definition: build.Definition,
    weights: Weights,
    tokens_BL: jax.Array,
    starts_B: jax.Array,
    memories: tuple[Memory, ...],
    place: jax.Array,
) -> tuple[jax.Array, tuple[Memory, ...]]:
    """Return hidden_BD of the last of some tokens that stand from `place` on, and the memories with all of them."""
    places_L = place + jnp.arange(tokens_BL.shape[1], dtype=jnp.int32)
    places_M = jnp.arange(memories[0].keys_BGMK.shape[2])
    sight = Sight(
        (places_L[None] >= starts_B[:, None]).astype(jnp.int32),
        (places_M[None] >= starts_B[:, None]).astype(jnp.int32),
        places_L,
    )
    positions_BL = jnp.maximum(places_L[None] - starts_B[:, None], 0)
    hidden_BLD, memories = _model(definition, weights).extend(weights.layers, tokens_BL, positions_BL, sight, memories)
    return hidden_BLD[:, -1], memories


def _chosen(
    definition: build.Definition,
    weights: Weights,
    choice: Choice,
    state: State,
    hidden_BD: jax.Array,
    ends_E: jax.Array,
    prompt: int,
) -> State:
    """Return the state with one more token in every row that has not ended."""
    model = _model(definition, weights)
    head_VD = products.rounded(model.head(), model.how.dtype) if weights.head_VD is None else weights.head_VD
    logits_BV = products.by_rows(hidden_BD, head_VD, model.how.dtype, products.FLOAT32)
    keys_B = jax.vmap(jax.random.fold_in, in_axes=(0, None))(state.keys_B, state.done)
    token_B = jnp.where(state.ended_B, 0, choice(logits_BV, state.seen_BV, keys_B))
    place = prompt + state.done
    seen_BV = state.seen_BV
    if seen_BV is not None:
        seen_BV = seen_BV.at[jnp.arange(len(token_B)), token_B].set(True)
    return state._replace(
        tokens_BM=jax.lax.dynamic_update_slice_in_dim(state.tokens_BM, token_B[:, None], place, axis=1),
        done=state.done + 1,
        ended_B=state.ended_B | jnp.any(token_B[:, None] == ends_E[None], axis=1),
        seen_BV=seen_BV,
    )


def _model(definition: build.Definition, weights: Weights) -> Any:
    return definition.bind({"blocks": definition.abstract["blocks"], **weights.own})


def as_they_are(parameters: dict[str, Any]) -> Weights:
    """Return parameters to write few tokens with, without a copy of them all."""
    return Weights(parameters, None, None)


def bucket(length: int) -> int:
    """Return the length that is compiled for: a multiple of 16, above 128 of an eighth of a power of two."""
    step = max(16, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // step) * step


def padded(prompts: Sequence[Sequence[int]], batch: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (tokens_BP, starts_B): prompts that end at the same place; rows behind the last one are empty."""
    length = bucket(max(map(len, prompts)))
    tokens_BP, starts_B = np.zeros((batch, length), np.int32), np.full(batch, length, np.int32)
    for row, prompt in enumerate(prompts):
        starts_B[row] = length - len(prompt)
        tokens_BP[row, starts_B[row] :] = prompt
    return tokens_BP, starts_B
