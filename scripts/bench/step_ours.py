"""Worker of step.py: one training step of GPT-2 124M by codex_jax, on whatever device jax finds."""

import dataclasses
import os
import sys

import jax
import numpy as np
import paired

from codex_jax import config, sharding, trees
from codex_jax.models import build
from codex_jax.training import flops, program


def main(dtype: str, rows: int, length: int) -> None:
    """Prepare the step and serve measurements of it."""
    base = config.Config()
    settings = dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, compute_dtype=dtype),
        data=dataclasses.replace(base.data, sequence_length=length),
        train=dataclasses.replace(base.train, global_batch_size=rows),
    )
    mesh = sharding.make_mesh(settings.parallel)
    model = program.make(settings, mesh)
    tokens = (
        np.random.default_rng(0).integers(0, model.definition.shape.vocab_size, (rows, length + 1)).astype(np.int32)
    )
    ones, positions = np.ones((rows, length), np.int32), np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    batch = sharding.place((tokens[:, :-1], tokens[:, 1:], ones.astype(np.float32), ones, positions), mesh)
    holder = [model.initial({}), 0]

    def work() -> None:
        holder[0], output = model.update(holder[0], {}, batch, np.int32(holder[1]))
        holder[1] += 1
        jax.block_until_ready(output)

    work()
    peak = flops.peak(build.compute_dtype(dtype))
    per_step = (
        flops.per_token(model.definition.shape, *2 * [trees.num_parameters(model.definition.abstract)], length)
        * rows
        * length
    )
    device = jax.devices()[0]
    paired.serve(
        work,
        {
            "jax": jax.__version__,
            "python": sys.version.split()[0],
            "device": device.device_kind,
            "step_flops": per_step,
            "peak_flops": peak,
            "malloc": os.environ.get("GLIBC_TUNABLES", ""),
        },
        paired.process_peak if device.platform == "cpu" else lambda: device.memory_stats()["peak_bytes_in_use"],
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
