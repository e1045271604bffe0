"""Worker of lora.py: one training step of adapters on GPT-2 124M by codex_jax, on whatever device jax finds."""

import dataclasses
import os
import sys

import jax
import numpy as np
import paired

from codex_jax import config, sharding, trees
from codex_jax.models import build, lora
from codex_jax.training import program


TARGETS = {"attention": ("qkv",), "all": ("qkv", "attention/out", "mlp/")}


def main(dtype: str, rows: int, length: int, targets: str) -> None:
    """Prepare the step and serve measurements of it."""
    base = config.Config()
    settings = dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, compute_dtype=dtype),
        adapter=config.Adapter(rank=8, alpha=16.0, targets=TARGETS[targets]),
        data=dataclasses.replace(base.data, sequence_length=length),
        train=dataclasses.replace(base.train, global_batch_size=rows),
    )
    mesh = sharding.make_mesh(settings.parallel)
    model = program.make(settings, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, lora.split(model.frozen)[0])
    frozen = jax.jit(lambda: build.initial(settings.model, jax.random.key(0)), out_shardings=places)()
    vocab_size = model.definition.shape.vocab_size
    tokens = np.random.default_rng(0).integers(0, vocab_size, (rows, length + 1)).astype(np.int32)
    ones, positions = np.ones((rows, length), np.int32), np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    batch = sharding.place((tokens[:, :-1], tokens[:, 1:], ones.astype(np.float32), ones, positions), mesh)
    holder = [model.initial({}), 0]

    def work() -> None:
        holder[0], output = model.update(holder[0], frozen, batch, np.int32(holder[1]))
        holder[1] += 1
        jax.block_until_ready(output)

    work()
    device = jax.devices()[0]
    about = {"jax": jax.__version__, "python": sys.version.split()[0], "device": device.device_kind}
    about |= {"trained": trees.num_parameters(holder[0].parameters), "malloc": os.environ.get("GLIBC_TUNABLES", "")}
    on_cpu = device.platform == "cpu"
    paired.serve(work, about, paired.process_peak if on_cpu else lambda: device.memory_stats()["peak_bytes_in_use"])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
