"""Causal attention inside segments: one function, the kernel picked by platform, all of them held to one result.

B batch · L query length · M key length · H heads · K head dim
"""

import jax
import jax.numpy as jnp

from codex_jax.errors import ConfigError
from codex_jax.models.products import precision


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
    key_BMHK: jax.Array,
    value_BMHK: jax.Array,
    segments_BL: jax.Array,
    *,
    dtype: jnp.dtype,
    implementation: str,
) -> jax.Array:
    """Return what each position reads from the positions before it in its own segment, (B, L, H, K) float32.

    Args:
      segments_BL: document of each position, int32; a position sees only positions of the same number.
      dtype: type of the operands of the two products.
      implementation: "auto", "xla" or "cudnn" (NVIDIA GPU, 16-bit dtype).
    """
    if pick(implementation, query_BLHK.shape[3], query_BLHK.shape[1], dtype) == "cudnn":
        mask_B1LM = (segments_BL[:, :, None] == segments_BL[:, None, :])[:, None]
        hidden_BLHK = jax.nn.dot_product_attention(
            query_BLHK.astype(dtype),
            key_BMHK.astype(dtype),
            value_BMHK.astype(dtype),
            mask=mask_B1LM,
            is_causal=True,
            implementation="cudnn",
        )
        return hidden_BLHK.astype(jnp.float32)
    return _attend_xla(query_BLHK, key_BMHK, value_BMHK, segments_BL, dtype)


def _attend_xla(
    query_BLHK: jax.Array, key_BMHK: jax.Array, value_BMHK: jax.Array, segments_BL: jax.Array, dtype: jnp.dtype
) -> jax.Array:
    length, head_dim = query_BLHK.shape[1], query_BLHK.shape[3]
    scores_BHLM = jnp.einsum(
        "BLHK,BMHK->BHLM",
        query_BLHK.astype(dtype),
        key_BMHK.astype(dtype),
        precision=precision(dtype),
        preferred_element_type=jnp.float32,
    )
    causal_LM = jnp.tril(jnp.ones((length, length), bool))
    mask_BLM = (segments_BL[:, :, None] == segments_BL[:, None, :]) & causal_LM[None]
    scores_BHLM = jnp.where(mask_BLM[:, None], scores_BHLM * head_dim**-0.5, jnp.finfo(jnp.float32).min)
    weights_BHLM = jax.nn.softmax(scores_BHLM, axis=-1)
    return jnp.einsum(
        "BHLM,BMHK->BLHK",
        weights_BHLM.astype(dtype),
        value_BMHK.astype(dtype),
        precision=precision(dtype),
        preferred_element_type=jnp.float32,
    )
