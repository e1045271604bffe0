"""Worker of deterministic.py: one training step by codex_jax, its sums in one order or not."""

import dataclasses
import os
import sys

import jax
import numpy as np
import paired

from codex_jax import config, sharding
from codex_jax.training import program


# layers, heads, width, vocabulary, rows, tokens of a row
SIZES = {"small": (2, 4, 128, 2048, 16, 128), "middle": (6, 8, 512, 8192, 16, 256)}


def main(size: str, shards: int) -> None:
    """Prepare the step and serve measurements of it."""
    layers, heads, width, vocab_size, rows, length = SIZES[size]
    base = config.Config()
    sizes = {"num_layers": layers, "num_heads": heads, "width": width, "vocab_size": vocab_size}
    settings = dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, **sizes, context_length=length, compute_dtype="float32"),
        data=dataclasses.replace(base.data, sequence_length=length),
        train=dataclasses.replace(base.train, global_batch_size=rows),
        parallel=dataclasses.replace(base.parallel, deterministic_reduction=shards),
    )
    mesh = sharding.make_mesh(settings.parallel)
    model = program.make(settings, mesh)
    tokens = np.random.default_rng(0).integers(0, vocab_size, (rows, length + 1)).astype(np.int32)
    ones, positions = np.ones((rows, length), np.int32), np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    batch = sharding.place((tokens[:, :-1], tokens[:, 1:], ones.astype(np.float32), ones, positions), mesh)
    holder = [model.initial({}), 0]

    def work() -> None:
        holder[0], output = model.update(holder[0], {}, batch, np.int32(holder[1]))
        holder[1] += 1
        jax.block_until_ready(output)

    work()
    about = {"jax": jax.__version__, "python": sys.version.split()[0], "parameters": model.definition.num_parameters}
    paired.serve(work, about | {"threads": os.environ.get("PJRT_NPROC", "")})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
