"""Checkpoints without arrays, made in no time: whole as far as anybody can verify."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax.checkpoint import document, manifest


def put(root: Path, step: int, meta: Mapping[str, Any] | None = None) -> Path:
    """Write the checkpoint of a step that remembers `meta`."""
    directory = root / str(step)
    (directory / "state").mkdir(parents=True)
    (directory / "state" / "values").write_bytes(b"%d" % step * 100)
    document.write(directory, document.make(step, {}, {"next": step}, meta or {}))
    manifest.write(directory)
    return directory


def put_losses(root: Path, losses: Mapping[int, Any], **more: Any) -> None:
    """Write a checkpoint for each step, evaluated with that loss."""
    for step, loss in losses.items():
        put(root, step, {"evaluation": {"loss": loss}, **more})


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
