"""Worker of generate.py: greedy decoding of GPT-2 124M by codex_jax, on whatever device jax finds."""

import os
import sys

import jax
import numpy as np
import paired

from codex_jax import config, sharding
from codex_jax.generation import decode, sampling, writing
from codex_jax.models import build


def main(dtype: str, batch: int, num_tokens: int) -> None:
    """Prepare the weights and serve measurements of one call."""
    settings = config.Model(compute_dtype=dtype)
    definition, mesh = build.define(settings), sharding.make_mesh(config.Parallel())
    decoding = decode.make(definition, mesh)
    weights = decoding.prepare(jax.jit(lambda: build.initial(settings, jax.random.key(0)))())
    vocabulary = definition.shape.vocab_size
    prompts = np.random.default_rng(0).integers(0, vocabulary, (batch, 32)).tolist()
    choice, keys_B = sampling.choice(vocabulary, temperature=0.0), writing.keys(0, prompts)
    limits = writing.Limits(num_tokens, (), num_tokens)

    def work() -> None:
        given = (decoding, weights, choice, prompts, keys_B, limits)
        rows = writing.last(writing.write(*given, lambda row, tokens: False))
        assert [len(row) for row in rows] == batch * [num_tokens]

    work()
    about = {"jax": jax.__version__, "python": sys.version.split()[0], "device": jax.devices()[0].device_kind}
    paired.serve(work, about | {"malloc": os.environ.get("GLIBC_TUNABLES", "")})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
