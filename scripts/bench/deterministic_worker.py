"""Worker of deterministic.py: one training step by codex_jax, its sums in one order or not."""

import dataclasses
import os
import sys

import jax
import model_step
import paired

from codex_jax import config


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
    step = model_step.Step(settings)
    step()
    about = {
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "parameters": step.program.definition.num_parameters,
    }
    paired.serve(step, about | {"threads": os.environ.get("PJRT_NPROC", "")})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
