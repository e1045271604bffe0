"""What an older version saved is loaded to the bit (A12 of the fault cases); what a newer one may save is refused."""

import json
import shutil
from pathlib import Path

import checkpoint_examples as examples
import pytest

from codex_jax.checkpoint import manifest, store
from codex_jax.errors import AssetError


pytestmark = pytest.mark.infra

# Written by tests/golden/make_checkpoint.py with version 0.1.0, orbax-checkpoint 0.12.8 and jax 0.10.2.
GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoint"


def test_checkpoint_of_the_first_format_is_restored_to_the_bit() -> None:
    found = store.find_newest(GOLDEN)
    assert found and (found.step, found.data_state, found.meta["run_id"]) == (7, {"next": 7}, "golden")
    on = examples.mesh(1)
    made = examples.make(7, on)
    restored = store.restore(found, examples.target(made, on))
    assert [one[:2] for one in examples.bits(restored)] == [one[:2] for one in examples.bits(made)]
    # Integers, keys and what is made without rounding are the same on every machine; drawn normals may not be.
    assert examples.bits((restored.step, restored.key, restored.params["blocks"]["bias"])) == examples.bits(
        (made.step, made.key, made.params["blocks"]["bias"])
    )


def test_checkpoint_of_a_later_format_names_the_format(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    shutil.copytree(GOLDEN, root)
    meta = json.loads((root / "7" / "meta.json").read_text())
    (root / "7" / "meta.json").write_text(json.dumps({**meta, "format": 2}))
    (root / "7" / manifest.NAME).unlink()
    manifest.write(root / "7")
    with pytest.raises(AssetError, match=r"has format 2 and this version of codex_jax reads 1; use the version"):
        store.find_newest(root)
