"""Rotary positions (Su et al. 2021, "RoFormer"), with the ways in use to stretch them over longer contexts.

B batch · L length · H heads · K head dim · F frequencies, K / 2
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rope(NamedTuple):
    """Rotations of pairs of a head's numbers by angles that grow with the position."""

    theta: float
    """base of the wave lengths"""
    scaling: str = "default"
    """default, linear, llama3 (Llama 3.1) or yarn (Peng et al. 2023)"""
    factor: float = 1.0
    """times the context is longer than in training"""
    original_length: int = 0
    """context of the training, in tokens"""
    low_factor: float = 1.0
    """llama3: wave lengths above original_length / low_factor are stretched in full"""
    high_factor: float = 4.0
    """llama3: those below original_length / high_factor are not"""
    beta_fast: float = 32.0
    """yarn: what turns more often than this over the original length is not stretched"""
    beta_slow: float = 1.0
    """yarn: what turns less often is stretched in full"""
    attention_factor: float = 1.0
    """yarn: multiplies rotated queries and keys"""


SCALINGS = ("default", "linear", "llama3", "yarn")


def frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Return the angle a position adds to each pair, in radians, (F,) float32."""
    exponents_F = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    plain_F = (1.0 / np.float32(rope.theta) ** exponents_F).astype(np.float32)
    if rope.scaling == "default":
        return plain_F
    kept_F = {"linear": _kept_linear, "llama3": _kept_llama3, "yarn": _kept_yarn}[rope.scaling](rope, plain_F)
    return (kept_F * plain_F + (1.0 - kept_F) * plain_F / rope.factor).astype(np.float32)


def _kept_linear(rope: Rope, plain_F: np.ndarray) -> np.ndarray:
    return np.zeros_like(plain_F)


def _kept_llama3(rope: Rope, plain_F: np.ndarray) -> np.ndarray:
    turns_F = rope.original_length * plain_F / (2 * math.pi)
    return np.clip((turns_F - rope.low_factor) / (rope.high_factor - rope.low_factor), 0.0, 1.0)


def _kept_yarn(rope: Rope, plain_F: np.ndarray) -> np.ndarray:
    """Return the share of each frequency that stays: a ramp from beta_fast to beta_slow turns."""
    dim = 2 * len(plain_F)

    def pair_that_turns(times: float) -> float:
        return dim * math.log(rope.original_length / (times * 2 * math.pi)) / (2 * math.log(rope.theta))

    first = max(math.floor(pair_that_turns(rope.beta_fast)), 0)
    last = min(math.ceil(pair_that_turns(rope.beta_slow)), dim - 1)
    return 1.0 - np.clip((np.arange(len(plain_F)) - first) / max(last - first, 0.001), 0.0, 1.0)


def rotation(rope: Rope, head_dim: int, positions_BL: jax.Array) -> jax.Array:
    """Return cosine and sine of every angle, (2, B, L, F) float32."""
    angles_BLF = positions_BL.astype(jnp.float32)[..., None] * jnp.asarray(frequencies(rope, head_dim))[None, None]
    return rope.attention_factor * jnp.stack([jnp.cos(angles_BLF), jnp.sin(angles_BLF)])


def rotate(heads_BLHK: jax.Array, rotation_2BLF: jax.Array) -> jax.Array:
    """Return the heads turned, float32; the pairs are number i of the first half and number i of the second."""
    first_BLHF, second_BLHF = jnp.split(heads_BLHK.astype(jnp.float32), 2, axis=-1)
    cos_BL1F, sin_BL1F = rotation_2BLF[0][:, :, None], rotation_2BLF[1][:, :, None]
    return jnp.concatenate(
        [first_BLHF * cos_BL1F - second_BLHF * sin_BL1F, second_BLHF * cos_BL1F + first_BLHF * sin_BL1F], axis=-1
    )
