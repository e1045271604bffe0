import sys
from collections.abc import Callable
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parent))

import checkpoint_examples as examples

from codex_jax.checkpoint import saving
from codex_jax.checkpoint.retention import Rules


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def save(root: Path) -> Callable[..., list[int]]:
    """Save the example states of some steps and return the acknowledged ones."""

    def run(*steps: int, keep_last: int = 10, devices: int = 1) -> list[int]:
        acknowledged: list[int] = []
        with saving.Checkpointer(root, Rules(keep_last), lambda step, _: acknowledged.append(step)) as checkpointer:
            for step in steps:
                state = examples.make(step, examples.mesh(devices))
                checkpointer.save(step, state, {"next": step}, {"run_id": "r", "step": step})
        return acknowledged

    return run
