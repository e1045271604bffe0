"""Writes tests/golden/checkpoint: what this version saves, for later ones to load. Run it only for a new format.

PYTHONPATH=.:tests/checkpoint python tests/golden/make_checkpoint.py
"""

import shutil
import tempfile
from pathlib import Path

import checkpoint_examples as examples

from codex_jax.checkpoint import saving
from codex_jax.checkpoint.retention import Rules


def main() -> None:
    golden = Path(__file__).with_name("checkpoint")
    shutil.rmtree(golden, ignore_errors=True)
    root = Path(tempfile.mkdtemp())  # Orbax writes down where it wrote
    with saving.Checkpointer(root, Rules(1), lambda *_: None) as saver:
        saver.save(7, examples.make(7, examples.mesh(1)), {"next": 7}, {"run_id": "golden", "settings": {}})
    shutil.move(root, golden)


if __name__ == "__main__":
    main()
