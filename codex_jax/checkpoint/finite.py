"""Whether every number of a state is one: a state with NaN in it is neither saved nor gone on from."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from codex_jax import trees


MAX_LISTED = 5


class Check:
    """The verdict on a state of jax arrays: begun when this is made, on the devices, and waited for when it is read.

    The buffers of the state may be donated meanwhile. Every process makes it at the same step.
    """

    def __init__(self, state: trees.PyTree) -> None:
        floats = [(name, leaf) for name, leaf in trees.named_leaves(state) if _is_float(leaf)]
        self._names = [name for name, _ in floats]
        self._largest_N = _magnitudes(floats[0][1].sharding)([leaf for _, leaf in floats]) if floats else np.zeros(0)

    def wrong(self) -> str:
        """Return which leaves hold a value that is not finite, as the beginning of a sentence; '' for none."""
        sound = np.isfinite(np.asarray(self._largest_N))
        return says([name for name, fine in zip(self._names, sound, strict=True) if not fine])


def says(names: Sequence[str]) -> str:
    """Return the beginning of a sentence about leaves that are not finite; '' for none."""
    if not names:
        return ""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{', '.join(names[:MAX_LISTED])}{more}: not finite (NaN or infinite values)"


def _is_float(leaf: jax.Array) -> bool:
    return bool(leaf.size) and jnp.issubdtype(leaf.dtype, jnp.inexact)


@functools.cache
def _magnitudes(where: Sharding) -> Callable[[list[jax.Array]], jax.Array]:
    """Return what gives the largest magnitude of each array, for all processes to read; NaN where one is."""
    everywhere = NamedSharding(where.mesh, PartitionSpec()) if isinstance(where, NamedSharding) else None
    # A maximum keeps NaN, and a CPU finds it in less than half the time of `isfinite(...).all()`.
    return jax.jit(
        lambda leaves: jnp.stack([jnp.max(jnp.abs(leaf)).astype(jnp.float32) for leaf in leaves]),
        out_shardings=everywhere,
    )
