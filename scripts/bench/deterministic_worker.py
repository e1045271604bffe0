"""Worker of deterministic.py: one training step by codex_jax, its sums in one order or not."""

import dataclasses
import os
import sys

import jax
import model_step
import paired


def main(size: str, shards: int) -> None:
    """Prepare the step and serve measurements of it."""
    settings = model_step.settings_of(size)
    parallel = dataclasses.replace(settings.parallel, deterministic_reduction=shards)
    step = model_step.Step(dataclasses.replace(settings, parallel=parallel))
    step()
    about = {
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "parameters": step.program.definition.num_parameters,
    }
    paired.serve(step, about | {"threads": os.environ.get("PJRT_NPROC", "")})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
