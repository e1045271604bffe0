"""The small model whose updates tests look at, and its programs on some devices, each compiled once for all tests."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from codex_jax import config, sharding
from codex_jax.training import program
from codex_jax.training.program import Program
from codex_jax.training.state import TrainState
from codex_jax.training.step import Output


BASE = config.Config()
SETTINGS = dataclasses.replace(
    BASE,
    model=dataclasses.replace(
        BASE.model, vocab_size=96, context_length=16, num_layers=2, num_heads=2, width=32, compute_dtype="float32"
    ),
    data=dataclasses.replace(BASE.data, sequence_length=16),
    train=dataclasses.replace(BASE.train, num_steps=20, global_batch_size=8),
    optimizer=dataclasses.replace(BASE.optimizer, learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=2),
)
# To compare parameters after some updates: with its usual epsilon Adam divides the tiniest gradients by their own size,
# which turns rounding into whole steps. With this one the parameters are as smooth a function of the batch as the loss.
SMOOTH = dataclasses.replace(SETTINGS, optimizer=dataclasses.replace(SETTINGS.optimizer, epsilon=1e-3))
ONE = config.Parallel(data=1)
ALL_AXES = config.Parallel(data=2, fsdp=2, tensor=2)


def with_train(settings: config.Config, **changes: Any) -> config.Config:
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, **changes))


def mesh_of(parallel: config.Parallel) -> Mesh:
    """A mesh of as many of the eight virtual devices as the axes need."""
    shape = (parallel.data, parallel.fsdp, parallel.tensor)
    if jax.default_backend() != "cpu" and np.prod(shape) > jax.device_count():
        pytest.skip(f"needs {np.prod(shape)} devices, here are {jax.device_count()} of {jax.default_backend()}")
    devices = np.array(jax.devices()[: int(np.prod(shape))]).reshape(shape)
    return Mesh(devices, ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)


def batch_of(index: int, *, length: int = 16) -> tuple[np.ndarray[Any, Any], ...]:
    """A batch of 8 rows in which about half of the tokens are learnt."""
    rows = 8
    rng = np.random.default_rng(index)
    tokens = rng.integers(0, 96, (rows, length + 1)).astype(np.int32)
    weights = rng.integers(0, 2, (rows, length)).astype(np.float32)
    positions = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    return tokens[:, :-1], tokens[:, 1:], weights, np.ones((rows, length), np.int32), positions


class Compiled(NamedTuple):
    """A program on some devices."""

    mesh: Mesh
    program: Program

    def initial(self) -> TrainState:
        return self.program.initial({})

    def update(
        self,
        state: TrainState,
        batch: tuple[np.ndarray[Any, Any], ...],
        index: int,
        frozen: dict[str, Any] | None = None,
    ) -> tuple[TrainState, Output]:
        return self.program.update(state, frozen or {}, sharding.place(batch, self.mesh), np.int32(index))


@functools.cache
def prepare(settings: config.Config, parallel: config.Parallel) -> Compiled:
    """Make the program of some settings, which is compiled when it is called first."""
    mesh = mesh_of(parallel)
    return Compiled(mesh, program.make(settings, mesh))
