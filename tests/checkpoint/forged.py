"""Checkpoints as an older version wrote them, which looked at no value."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import checkpoint_examples as examples
import jax
import numpy as np

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


def change_leaf(directory: Path, name: str) -> None:
    """Change the first element of a leaf of a checkpoint, and sign for that: it is whole and another."""
    found = store.load_as_written(directory)
    tree: dict[str, Any] = {}
    with arrays.opened(directory / store.STATE) as read:
        for leaf in found.leaves:
            *parents, last = leaf.split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            value = np.array(read(leaf))
            if leaf == name:
                value.reshape(-1)[0] += 1
            node[last] = jax.device_put(value)
    shutil.rmtree(directory / store.STATE)
    writer = arrays.Writer(60)
    writer.start(directory / store.STATE, tree)
    writer.wait()
    writer.close()
    manifest.write(directory)
