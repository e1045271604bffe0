"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners")."""

import jax.numpy as jnp
from flax import nnx

from codex_jax import config
from codex_jax.models.decoder import Decoder, Shape


def build(model: config.Model, dtype: jnp.dtype, rngs: nnx.Rngs) -> Decoder:
    """Return a GPT-2 of the configured size.

    Initial values are those of the published code: normal with deviation 0.02, positions 0.01, the two products that
    write to the residual stream divided by sqrt(2 x layers), biases zero.
    """
    shape = Shape(
        vocab_size=model.vocab_size,
        context_length=model.context_length,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        width=model.width,
        dropout=model.dropout,
        norm_epsilon=1e-5,
        init_stddev=0.02,
        position_stddev=0.01,
        dtype=dtype,
        attention=model.attention,
        remat=model.remat,
        scan_unroll=model.scan_unroll,
    )
    return Decoder(shape, rngs)
