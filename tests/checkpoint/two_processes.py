"""One of two processes with two devices each: saves a state split over all four, and restores it.

python two_processes.py ROOT PROCESS PORT
"""

import os
import sys
from pathlib import Path


os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import checkpoint_examples as examples
import jax
from jax.experimental import multihost_utils

from codex_jax.checkpoint import saving, store
from codex_jax.checkpoint.retention import Rules


def main(root: Path, process: int, port: str) -> None:
    jax.distributed.initialize(f"localhost:{port}", 2, process)
    on = examples.mesh(4)
    with saving.Checkpointer(root, Rules(1), lambda step, _: print("saved", step, flush=True)) as checkpointer:
        for step in (1, 2, 2):
            state = examples.make(step, on)
            checkpointer.save(step, state, {"next": step}, {})
    multihost_utils.sync_global_devices("saved")
    found = store.find_newest(root)
    assert found and found.step == 2
    restored = store.restore(found, examples.target(state, on))
    for left, right in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        shards = zip(left.addressable_shards, right.addressable_shards, strict=True)
        assert all(examples.bits(one.data) == examples.bits(other.data) for one, other in shards)
    print("restored", found.step, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
