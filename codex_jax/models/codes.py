"""Kernels in few bits: int8 by column, or nf4 by blocks (Dettmers et al. 2023, "QLoRA").

D inputs of a product · F features · B blocks of inputs
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


MODES = ("int8", "nf4")
# Inputs that share a scale.
BLOCK = 64
# The quantiles of a normal distribution that nf4 stands for, scaled to end at -1 and 1 with an exact 0: appendix E.
NF4_16 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)
# A code is the number of these that a value is above.
_BETWEEN_15 = (NF4_16[1:] + NF4_16[:-1]) / 2


class Coded(NamedTuple):
    """A kernel in few bits: arrays, or what stands for them, their shapes or shardings."""

    codes: Any
    """int8: (D, F) int8; nf4: (D / 2, F) uint8, the codes of two inputs half a block apart in each"""
    scales: Any
    """int8: (1, F), nf4: (B, F); float32, what a code is multiplied by"""


def mode_of(coded: Coded) -> str:
    """Return how arrays, or their shapes, are coded."""
    return "int8" if coded.codes.dtype == jnp.int8 else "nf4"


def shapes(inputs: int, features: int, mode: str) -> Coded:
    """Return the shapes of a coded kernel as a Coded of ShapeDtypeStruct."""
    return jax.eval_shape(lambda: encode(jnp.zeros((inputs, features)), mode))


def encode(kernel_DF: jax.Array, mode: str) -> Coded:
    """Return the kernel in the nearest codes there are.

    The error of a weight is at most half a step: of int8 1/254 of the largest in its column, of nf4 0.152 of the
    largest in its block.
    """
    if mode == "int8":
        scales_1F = jnp.max(jnp.abs(kernel_DF), axis=0, keepdims=True) / 127.0
        codes_DF = jnp.round(kernel_DF / jnp.where(scales_1F == 0.0, 1.0, scales_1F))
        return Coded(codes_DF.astype(jnp.int8), scales_1F)
    blocks_BPF = _blocks(kernel_DF)
    scales_BF = jnp.max(jnp.abs(blocks_BPF), axis=1)
    normal_BPF = blocks_BPF / jnp.where(scales_BF == 0.0, 1.0, scales_BF)[:, None]
    codes_BPF = jnp.searchsorted(jnp.asarray(_BETWEEN_15), normal_BPF).astype(jnp.uint8)
    low, high = jnp.split(codes_BPF, 2, axis=1)
    return Coded((low | high << 4).reshape(-1, kernel_DF.shape[1]), scales_BF)


def decode(coded: Coded, inputs: int, dtype: jnp.dtype) -> jax.Array:
    """Return the kernel that the codes stand for, (D, F) in `dtype`."""
    if mode_of(coded) == "int8":
        return (coded.codes.astype(jnp.float32) * coded.scales).astype(dtype)
    codes_BHF = coded.codes.reshape(len(coded.scales), -1, coded.codes.shape[1])
    values_BPF = _value(jnp.concatenate([codes_BHF & 15, codes_BHF >> 4], axis=1)) * coded.scales[:, None]
    return values_BPF.reshape(-1, coded.codes.shape[1])[:inputs].astype(dtype)


def _blocks(kernel_DF: jax.Array) -> jax.Array:
    """Return the kernel in blocks of inputs, the last filled up with zeros: (B, BLOCK, F)."""
    inputs, features = kernel_DF.shape
    return jnp.pad(kernel_DF, ((0, -inputs % BLOCK), (0, 0))).reshape(math.ceil(inputs / BLOCK), BLOCK, features)


def _value(codes: jax.Array) -> jax.Array:
    """Return what each code stands for: chosen by its bits, since a CPU looks up one at a time but compares many."""
    values = [jnp.float32(value) for value in NF4_16]
    for bit in range(4):
        is_set = (codes >> bit & 1).astype(bool)
        values = [jnp.where(is_set, high, low) for low, high in zip(values[::2], values[1::2], strict=True)]
    return values[0]
