"""Worker of lora.py: one training step of adapters on GPT-2 124M by codex_jax, on whatever device jax finds."""

import dataclasses
import os
import sys

import jax
import model_step
import paired

from codex_jax import config, trees
from codex_jax.models import build, lora


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
    step = model_step.Step(settings)
    places = jax.tree.map(lambda leaf: leaf.sharding, lora.split(step.program.frozen)[0])
    step.frozen = jax.jit(lambda: build.initial(settings.model, jax.random.key(0)), out_shardings=places)()
    step()
    device = jax.devices()[0]
    about = {"jax": jax.__version__, "python": sys.version.split()[0], "device": device.device_kind}
    about |= {"trained": trees.num_parameters(step.state.parameters), "malloc": os.environ.get("GLIBC_TUNABLES", "")}
    on_cpu = device.platform == "cpu"
    paired.serve(step, about, paired.process_peak if on_cpu else lambda: device.memory_stats()["peak_bytes_in_use"])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
