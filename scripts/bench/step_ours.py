"""Worker of step.py: one training step of GPT-2 124M by codex_jax, on whatever device jax finds."""

import dataclasses
import os
import sys

import jax
import model_step
import paired

from codex_jax import config, trees
from codex_jax.models import build
from codex_jax.training import flops


def main(dtype: str, rows: int, length: int) -> None:
    """Prepare the step and serve measurements of it."""
    base = config.Config()
    settings = dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, compute_dtype=dtype),
        data=dataclasses.replace(base.data, sequence_length=length),
        train=dataclasses.replace(base.train, global_batch_size=rows),
    )
    step = model_step.Step(settings)
    step()
    definition = step.program.definition
    peak = flops.peak(build.compute_dtype(dtype))
    per_step = (
        flops.per_token(definition.shape, *2 * [trees.num_parameters(definition.abstract)], length) * rows * length
    )
    device = jax.devices()[0]
    paired.serve(
        step,
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
