"""Checkpoints as an older version wrote them, which looked at no value."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import checkpoint_examples as examples

from codex_jax.checkpoint import arrays, document, leaves, manifest, store


def spoilt(step: int, value: float, devices: int = 1) -> Any:
    """Return the example state with one value of a bfloat16 kernel replaced."""
    state = examples.make(step, examples.mesh(devices))
    blocks = state.params["blocks"]
    blocks = {**blocks, "kernel": blocks["kernel"].at[1, 3, 5].set(value)}
    return dataclasses.replace(state, params={**state.params, "blocks": blocks})


def put(root: Path, step: int, state: Any, meta: Mapping[str, Any] | None = None) -> None:
    """Write the checkpoint of a step, whatever its state holds."""
    directory = root / str(step)
    directory.mkdir(parents=True)
    writer = arrays.Writer(60)
    writer.start(directory / store.STATE, state)
    writer.wait()
    writer.close()
    document.write(directory, document.make(step, leaves.table(state), {"next": step}, meta or {}))
    manifest.write(directory)
