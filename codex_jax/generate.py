"""Text that continues a prompt, sampled from a model.

L length of prompt and answer together · V vocabulary
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from codex_jax import config, sharding
from codex_jax.errors import ConfigError
from codex_jax.models import build
from codex_jax.safety.gate import Verdict
from codex_jax.tokenizers.tokenizer import Tokenizer


Sample = Callable[[dict[str, Any], jax.Array], str]


def make(
    settings: config.Config,
    definition: build.Definition,
    mesh: Mesh,
    tokenizer: Tokenizer,
    asked: Verdict,
    opening: Sequence[int],
) -> Sample:
    """Return `sample(parameters, key) -> text`: the prompt asked for and `generate.num_tokens` tokens after it.

    Without a prompt it is `opening`, a few tokens of the data. It is shortened from the left to what leaves room in the
    context. Compiled once, at the first call. ConfigError for a prompt that the safety policy blocks.
    """
    options = settings.generate
    if asked.blocked:
        raise ConfigError(
            f"generate.prompt is blocked by the safety policy ({', '.join(asked.blocked)}); ask for something else, or "
            "change safety.policy"
        )
    # Not the end token alone: where documents are isolated nothing is learnt to follow it.
    prompt = tokenizer.encode([asked.text])[0].tolist() or list(opening)
    prompt = prompt[-(settings.model.context_length - options.num_tokens) :]
    length = len(prompt) + options.num_tokens
    room = length + length % 2  # fused kernels take even lengths only; what is behind a token does not reach it
    # NumPy: an array of jax would be one of this process alone.
    start_1L = np.zeros((1, room), np.int32)
    start_1L[0, : len(prompt)] = prompt

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def fill(parameters: dict[str, Any], key: jax.Array) -> jax.Array:
        model = definition.bind(parameters)
        ones_1L = jnp.ones((1, room), jnp.int32)
        positions_1L = jnp.arange(room, dtype=jnp.int32)[None]

        def extend(index: jax.Array, tokens_1L: jax.Array) -> jax.Array:
            hidden_1LD = model(tokens_1L, ones_1L, positions_1L)
            logits_V = model.head() @ jax.lax.dynamic_index_in_dim(hidden_1LD[0], index - 1, keepdims=False)
            token = choose(logits_V, jax.random.fold_in(key, index), options, tokenizer.vocab_size)
            return tokens_1L.at[0, index].set(token)

        return jax.lax.fori_loop(len(prompt), length, extend, jnp.asarray(start_1L))

    def sample(parameters: dict[str, Any], key: jax.Array) -> str:
        return tokenizer.decode(jax.device_get(fill(parameters, key))[0, :length])

    return sample


def choose(logits_V: jax.Array, key: jax.Array, options: config.Generate, vocab_size: int) -> jax.Array:
    """Return one token drawn by temperature and top-k from the first `vocab_size` logits, int32."""
    known_V = jnp.where(jnp.arange(logits_V.shape[0]) < vocab_size, logits_V, -jnp.inf)
    if options.temperature == 0.0:
        return jnp.argmax(known_V).astype(jnp.int32)
    if options.top_k:
        least = jax.lax.top_k(known_V, min(options.top_k, vocab_size))[0][-1]
        known_V = jnp.where(known_V >= least, known_V, -jnp.inf)
    return jax.random.categorical(key, known_V / options.temperature).astype(jnp.int32)
