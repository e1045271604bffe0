"""A small model as somebody publishes it on a hub, and the command that fetches it from there."""

import json
from pathlib import Path
from typing import Any

import hub_server
import numpy as np
from hub_server import COMMIT, Hub
from safetensors.numpy import save

from codex_jax import config, trees
from codex_jax.cli import app
from codex_jax.models import build, pretrained
from codex_jax.tokenizers import byte


TINY = {"model_type": "gpt2", "vocab_size": 260, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
REPOSITORY = "some-one/Tiny.GPT"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def tensors() -> dict[str, Any]:
    """Return the weights by their published names."""
    definition = build.define(config.Model(architecture=json.dumps(TINY)))
    shapes = {name: leaf.shape for name, leaf in trees.named_leaves(definition.abstract)}
    return {
        name: np.full(pretrained.published_shape(leaf, shapes[leaf], row), 0.5, np.float32)
        for leaf, row, names in pretrained.rows(definition)
        for name in names
    }


def published(directory: Path) -> dict[str, bytes]:
    """Return the files of a model with its tokenizer, for which a directory is needed, and some that are not read."""
    byte.make().save(directory)
    beside = {path.name: path.read_bytes() for path in directory.iterdir() if path.name.startswith("tokenizer")}
    return {
        "config.json": json.dumps(TINY).encode(),
        WEIGHTS: save(tensors()),
        **beside,
        "pytorch_model.bin": b"a pickle",
        "modeling_tiny.py": b"raise SystemExit",
        "onnx/model.onnx": b"of another program",
        "README.md": b"read me",
    }


def restate(hub: Hub, changed: dict[str, bytes]) -> None:
    """Change files, and what is stated of them."""
    hub.files |= changed
    hub.siblings = [hub_server.sibling(name, data) for name, data in hub.files.items()]


def run(capsys: Any, *arguments: str, code: int = 0) -> Any:
    """Run `codex-jax model`; return what it printed, read with --json."""
    capsys.readouterr()
    assert app.main(["model", *arguments]) == code
    captured = capsys.readouterr()
    return json.loads(captured.out) if "--json" in arguments and not code else captured.out + captured.err


def download(capsys: Any, *more: str, code: int = 0) -> Any:
    """Fetch the model to my-model."""
    return run(capsys, "download", REPOSITORY, f"--revision={COMMIT}", "--to=my-model", *more, code=code)
