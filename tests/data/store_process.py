"""One of several processes with two devices each: takes batches of a store and prints what all of them hold together.

python store_process.py CORPUS STORE COUNT PROCESS PORT BATCHES STATE TENSOR

The first process writes the position after the last batch into the file STATE, from which the next start goes on.
"""

import json
import os
import sys
from pathlib import Path


os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import stores
from jax.experimental import multihost_utils

from codex_jax import config, sharding
from codex_jax.data.batch import Batch


def main(
    corpus: Path, directory: Path, count: int, process: int, port: str, batches: int, saved: Path, tensor: int
) -> None:
    if count > 1:
        jax.distributed.initialize(f"localhost:{port}", count, process)
    mesh = sharding.make_mesh(config.Parallel(tensor=tensor))
    stream = stores.open_stream(stores.settings_for(corpus, directory), 8, sharding.part_of_batch(mesh))
    if saved.exists():
        stream.restore(json.loads(saved.read_text()))
    for _ in range(batches):
        placed = sharding.place(next(stream), mesh)
        whole = Batch(*(multihost_utils.process_allgather(array, tiled=True) for array in placed))
        if process == 0:
            print("batch", stores.digest(whole), flush=True)
    multihost_utils.sync_global_devices("done")
    if process == 0:
        saved.write_text(json.dumps(stream.state()))


if __name__ == "__main__":
    stores.plan.SHARD_BYTES = stores.SHARD_BYTES
    corpus, directory, count, process, port, batches, saved, tensor = sys.argv[1:]
    main(Path(corpus), Path(directory), int(count), int(process), port, int(batches), Path(saved), int(tensor))
