"""Arithmetic a token costs, and what the devices could do at most: the two halves of model FLOPs utilisation (MFU)."""

import jax
import jax.numpy as jnp

from codex_jax.models.architecture import Architecture
from codex_jax.training import cpu_peak


# Dense products with 16-bit operands, in FLOP/s a device, from the vendors' data sheets (without sparsity).
PEAK = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L40S": 362e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,  # what a v5p calls itself
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}


def per_token(shape: Architecture, num_parameters: int, num_trained: int, sequence_length: int) -> float:
    """Return FLOPs of forward and backward for one token (PaLM, app. B): 6 x parameters + 12 x heads' width x length.

    A parameter that is not trained costs 4: its product forward, and one to pass the gradient on.
    The latter in every layer, with its window where that is shorter. Embeddings are looked up, not multiplied, and do
    not count; the head does, tied or not.
    """
    looked_up = shape.context_length * shape.width if shape.learned_positions else 0
    looked_up += 0 if shape.tied else shape.vocab_size * shape.width
    seen = sum(min(kind.window or sequence_length, sequence_length) for kind in shape.layers)
    multiplied = num_parameters - looked_up
    return 4.0 * multiplied + 2.0 * min(num_trained, multiplied) + 12.0 * shape.num_heads * shape.head_dim * seen


def peak(dtype: jnp.dtype) -> float | None:
    """Return the FLOP/s of all devices together, None where no figure is known; on a CPU products measure it."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        # All virtual CPU devices share the cores, so one measurement is the whole machine.
        return cpu_peak.flops(dtype)
    figure = known(device.device_kind) if dtype.itemsize == 2 else None
    return jax.device_count() * figure if figure else None


def known(kind: str) -> float | None:
    """Return the figure of the longest name that `kind` begins with, word by word: an L40 is no L4."""
    words = kind.replace("-", " ").split()
    fits = [name for name in PEAK if words[: len(name.split())] == name.split()]
    return PEAK[max(fits, key=len)] if fits else None
