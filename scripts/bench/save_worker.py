"""Worker of save.py: one save, or one restore, of the state of GPT-2 124M with AdamW: here, by torch, or by bare Orbax.

python scripts/bench/save_worker.py SIDE ACTION DIRECTORY      ours|torch|orbax, save|restore
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paired


def main(side: str, action: str, directory: Path) -> None:
    """Prepare and serve measurements of the action; a save ends when all is flushed to the disk."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    save, restore, about = {"ours": ours, "torch": with_torch, "orbax": with_orbax}[side](directory)
    save()
    paired.serve({"save": save, "restore": restore}[action], about)


def flush(directory: Path) -> None:
    """Flush every file below a directory, as a save that counts must."""
    for path in directory.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def state() -> tuple[Any, Any]:
    """Return a state that no compressor makes much smaller, as a trained one is, and its shapes and places."""
    import jax

    from codex_jax import config, sharding
    from codex_jax.training import program

    settings = config.Config()
    made = program.make(settings, sharding.make_mesh(settings.parallel))

    def noise(leaf: jax.Array) -> jax.Array:
        is_float = jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)
        return jax.random.normal(jax.random.key(leaf.size), leaf.shape, leaf.dtype) if is_float else leaf

    return jax.block_until_ready(jax.tree.map(noise, made.initial({}))), made.target


def ours(directory: Path) -> tuple[Callable[[], Any], Callable[[], Any], dict[str, Any]]:
    """Save and restore by codex_jax: every byte hashed, flushed, verified, every number looked at."""
    import jax

    from codex_jax.checkpoint import saving, store
    from codex_jax.checkpoint.retention import Rules

    tree, target = state()
    last = [0]

    def save() -> None:
        last[0] += 1
        with saving.Checkpointer(directory, Rules(1), lambda *_: None) as saver:
            saver.save(last[0], tree, {}, {})

    def restore() -> None:
        found = store.find_newest(directory)
        assert found
        jax.block_until_ready(store.restore(found, target))

    return save, restore, {"jax": jax.__version__, "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(tree))}


def with_orbax(directory: Path) -> tuple[Callable[[], Any], Callable[[], Any], dict[str, Any]]:
    """Save and restore by Orbax as it comes."""
    import jax
    import orbax.checkpoint as ocp

    tree, target = state()
    step = [0]
    bare = ocp.StandardCheckpointer()
    # Orbax writes no typed keys.
    tree, target = (tree.parameters, tree.optimizer), (target.parameters, target.optimizer)

    def save() -> None:
        step[0] += 1
        bare.save(directory / str(step[0]), tree)
        bare.wait_until_finished()
        flush(directory / str(step[0]))
        shutil.rmtree(directory / str(step[0] - 1), ignore_errors=True)

    def restore() -> None:
        jax.block_until_ready(bare.restore(directory / str(step[0]), target))

    return save, restore, {"orbax": ocp.__version__}


def with_torch(directory: Path) -> tuple[Callable[[], Any], Callable[[], Any], dict[str, Any]]:
    """Save and restore by torch.save and torch.load of tensors of the same shapes."""
    import jax
    import numpy as np
    import torch

    shapes = [leaf.shape for leaf in jax.tree.leaves(state()[1]) if leaf.dtype == np.float32]
    tree = {str(number): torch.randn(shape) for number, shape in enumerate(shapes)}

    def save() -> None:
        torch.save(tree, directory / "new")
        flush(directory)
        os.replace(directory / "new", directory / "state.pt")

    return save, lambda: torch.load(directory / "state.pt"), {"torch": torch.__version__}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
