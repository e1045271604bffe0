"""A training step of a model on random tokens, for the benchmarks that time one."""

import dataclasses
from typing import Any

import jax
import numpy as np

from codex_jax import config, sharding
from codex_jax.training import program


# layers, heads, width, vocabulary, rows, tokens of a row
SIZES = {"small": (2, 4, 128, 2048, 16, 128), "middle": (6, 8, 512, 8192, 16, 256)}


def settings_of(size: str) -> config.Config:
    """Return the settings of a model of that size in float32, and of its batch."""
    layers, heads, width, vocab_size, rows, length = SIZES[size]
    base = config.Config()
    sizes = {"num_layers": layers, "num_heads": heads, "width": width, "vocab_size": vocab_size}
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, **sizes, context_length=length, compute_dtype="float32"),
        data=dataclasses.replace(base.data, sequence_length=length),
        train=dataclasses.replace(base.train, global_batch_size=rows),
    )


class Step:
    """A call is one update, waited for; rows and length of the batch are those of the settings.

    Where parameters are frozen, `frozen` is to be filled first.
    """

    def __init__(self, settings: config.Config) -> None:
        rows, length = settings.train.global_batch_size, settings.data.sequence_length
        mesh = sharding.make_mesh(settings.parallel)
        self.program = program.make(settings, mesh)
        self.state = self.program.initial({})
        self.frozen: dict[str, Any] = {}
        self.num_done = 0
        vocab_size = self.program.definition.shape.vocab_size
        tokens = np.random.default_rng(0).integers(0, vocab_size, (rows, length + 1)).astype(np.int32)
        ones, positions = np.ones((rows, length), np.int32), np.tile(np.arange(length, dtype=np.int32), (rows, 1))
        self._batch = sharding.place((tokens[:, :-1], tokens[:, 1:], ones.astype(np.float32), ones, positions), mesh)

    def __call__(self) -> None:
        self.state, output = self.program.update(self.state, self.frozen, self._batch, np.int32(self.num_done))
        self.num_done += 1
        jax.block_until_ready(output)
