"""Attention inside segments: one function, the kernel picked by platform, all of them held to one result.

B batch · L query length · M key length · H heads · G heads of keys and values, which divide H · K head dim
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from codex_jax.errors import ConfigError
from codex_jax.models.products import precision, rounded


class Sight(NamedTuple):
    """Which keys a query sees: those of its segment, at or before its place, as near as the layer's window asks."""

    segments_BL: jax.Array
    """document of each query, int32"""
    segments_BM: jax.Array
    """document of each key, int32"""
    places_L: jax.Array | None
    """where among the keys each query stands; None: they are the keys' own, in order"""
    causal: bool = True
    """False: a query sees what is behind it as well"""


def pick(implementation: str, head_dim: int, length: int, dtype: jnp.dtype) -> str:
    """Return the kernel for these shapes: the fused one where it was asked for, or fits and nothing was asked for.

    ConfigError when it was asked for and does not fit.
    """
    if implementation == "xla":
        return "xla"
    here = {
        "an NVIDIA GPU": jax.default_backend() == "gpu",
        "16-bit products": dtype.itemsize == 2,
        "heads of at most 128, a multiple of 8": head_dim <= 128 and head_dim % 8 == 0,
        "an even length": length % 2 == 0,
    }
    if all(here.values()):
        return "cudnn"
    if implementation == "auto":
        return "xla"
    missing = ", ".join(need for need, holds in here.items() if not holds)
    raise ConfigError(
        f"model.attention=cudnn needs {missing}; here are {jax.default_backend()} devices, {dtype.name} products, "
        f"heads of {head_dim} and {length} tokens. Set model.attention to xla, or to auto, which chooses by itself"
    )


def attend(
    query_BLHK: jax.Array,
    key_BMGK: jax.Array,
    value_BMGK: jax.Array,
    sight: Sight,
    *,
    window: int | jax.Array = 0,
    scale: float,
    dtype: jnp.dtype,
    implementation: str,
) -> jax.Array:
    """Return what each query reads from the keys it sees, (B, L, H, K) float32; one that sees none reads anything.

    Args:
      window: keys that a query sees, its own among them, int; 0 for all.
      scale: multiplies the scores.
      dtype: type of the operands of the two products.
      implementation: "auto", "xla" or "cudnn" (NVIDIA GPU, 16-bit dtype).
    """
    own = sight.places_L is None
    if own and pick(implementation, query_BLHK.shape[3], query_BLHK.shape[1], dtype) == "cudnn":
        is_whole = isinstance(window, int) and window == 0
        hidden_BLHK = jax.nn.dot_product_attention(
            query_BLHK.astype(dtype),
            key_BMGK.astype(dtype),
            value_BMGK.astype(dtype),
            mask=(_same_segment(sight) if is_whole else _seen(sight, window))[:, None],
            scale=scale,
            is_causal=sight.causal,
            implementation="cudnn",
        )
        return hidden_BLHK.astype(jnp.float32)
    return _attend_xla(query_BLHK, key_BMGK, value_BMGK, _seen(sight, window), scale, dtype)


def recall(
    query_BLHK: jax.Array,
    keys_BGMK: jax.Array,
    values_BGMK: jax.Array,
    sight: Sight,
    *,
    window: int | jax.Array = 0,
    scale: float,
    dtype: jnp.dtype,
) -> jax.Array:
    """Return what `attend` does, for keys and values that are kept: head by head, rounded to `dtype`."""
    batch, length, heads, size = query_BLHK.shape
    groups = keys_BGMK.shape[1]
    query_BGRLK = query_BLHK.reshape(batch, length, groups, -1, size).transpose(0, 2, 3, 1, 4)
    # The heads of a group are more queries to the same keys: Q = R x L.
    query_BGQK = query_BGRLK.reshape(batch, groups, -1, size)
    exact = precision(keys_BGMK.dtype)

    def multiply(axes: str, left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.einsum(axes, rounded(left, dtype), right, precision=exact, preferred_element_type=jnp.float32)

    scores_BGQM = multiply("BGQK,BGMK->BGQM", query_BGQK, keys_BGMK)
    seen_BGQM = jnp.broadcast_to(
        _seen(sight, window)[:, None, None], (batch, groups, heads // groups, length, keys_BGMK.shape[2])
    ).reshape(scores_BGQM.shape)
    read_BGQK = multiply("BGQM,BGMK->BGQK", _softmax(scores_BGQM, seen_BGQM, scale), values_BGMK)
    read_BGRLK = read_BGQK.reshape(query_BGRLK.shape)
    return read_BGRLK.transpose(0, 3, 1, 2, 4).reshape(query_BLHK.shape)


def _attend_xla(
    query_BLHK: jax.Array,
    key_BMGK: jax.Array,
    value_BMGK: jax.Array,
    seen_BLM: jax.Array,
    scale: float,
    dtype: jnp.dtype,
) -> jax.Array:
    heads, groups = query_BLHK.shape[2], key_BMGK.shape[2]
    if groups != heads:  # the heads of a group side by side, as if they were more queries
        shape = (*query_BLHK.shape[:2], groups, heads // groups, query_BLHK.shape[3])
        query_BLGRK = query_BLHK.reshape(shape)
        scores = _product("BLGRK,BMGK->BGRLM", query_BLGRK, key_BMGK, dtype)
        weights = _softmax(scores, seen_BLM[:, None, None], scale)
        return _product("BGRLM,BMGK->BLGRK", weights, value_BMGK, dtype).reshape(query_BLHK.shape)
    scores = _product("BLHK,BMHK->BHLM", query_BLHK, key_BMGK, dtype)
    weights = _softmax(scores, seen_BLM[:, None], scale)
    return _product("BHLM,BMHK->BLHK", weights, value_BMGK, dtype)


def _product(axes: str, left: jax.Array, right: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jnp.einsum(
        axes,
        left.astype(dtype),
        right.astype(dtype),
        precision=precision(dtype),
        preferred_element_type=jnp.float32,
    )


def _softmax(scores: jax.Array, seen: jax.Array, scale: float) -> jax.Array:
    return jax.nn.softmax(jnp.where(seen, scores * scale, jnp.finfo(jnp.float32).min), axis=-1)


def _same_segment(sight: Sight) -> jax.Array:
    return sight.segments_BL[:, :, None] == sight.segments_BM[:, None, :]


def _seen(sight: Sight, window: int | jax.Array) -> jax.Array:
    """Return whether a query sees a key, (B, L, M) bool."""
    queries, keys = sight.segments_BL.shape[1], sight.segments_BM.shape[1]
    places_L = jnp.arange(queries) if sight.places_L is None else sight.places_L
    behind_LM = places_L[:, None] - jnp.arange(keys)[None]
    near_LM = jnp.ones((queries, keys), bool)
    if sight.causal:
        near_LM &= behind_LM >= 0
    if not isinstance(window, int) or window:
        near_LM &= (window == 0) | (behind_LM < window)
    return _same_segment(sight) & near_LM[None]
