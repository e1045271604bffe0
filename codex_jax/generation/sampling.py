"""From logits to tokens: pure functions on the last axis, and the choice that applies them in order.

B batch · V vocabulary · C candidates
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from codex_jax.errors import ConfigError


def mask_logits(logits: jax.Array | Sequence[float], banned_ids: Sequence[int] | set[int]) -> jax.Array:
    """Return logits (..., V) with minus infinity at some ids; ids outside the vocabulary are ignored."""
    scores = jnp.asarray(logits, jnp.float32)
    size = scores.shape[-1]
    banned_V = np.zeros(size, bool)
    banned_V[[index for index in banned_ids if 0 <= index < size]] = True
    return jnp.where(banned_V.reshape((1,) * (scores.ndim - 1) + (size,)), -jnp.inf, scores)


def penalise(logits: jax.Array, seen: jax.Array, penalty: jax.Array | float) -> jax.Array:
    """Return logits with those of tokens that were seen made less likely (Keskar et al. 2019, CTRL).

    `seen`: bool, as the logits. A penalty above 1 divides positive logits and multiplies negative ones.
    """
    return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_top_p(logits: jax.Array, top_p: jax.Array | float) -> jax.Array:
    """Keep the likeliest tokens whose probabilities add up to at least `top_p` (Holtzman et al. 2019)."""
    ascending = jnp.sort(logits, axis=-1)
    below = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1)
    kept = (below > 1.0 - top_p).at[..., -1].set(True)
    least = jnp.min(jnp.where(kept, ascending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= least, logits, -jnp.inf)


def keep_min_p(logits: jax.Array, min_p: jax.Array | float) -> jax.Array:
    """Keep tokens at least `min_p` times as likely as the likeliest (Nguyen et al. 2024)."""
    probabilities = jax.nn.softmax(logits, axis=-1)
    return jnp.where(probabilities >= min_p * jnp.max(probabilities, axis=-1, keepdims=True), logits, -jnp.inf)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """How the next token is chosen. None switches a filter off; another number of one that is on compiles nothing."""

    vocab_size: int = dataclasses.field(metadata={"static": True})
    """tokens the tokenizer has; rows of the model behind them are never chosen"""
    banned: tuple[int, ...] = dataclasses.field(default=(), metadata={"static": True})
    top_k: int = dataclasses.field(default=0, metadata={"static": True})
    """0: all"""
    temperature: float | None = None
    """None: the likeliest token"""
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def __call__(self, logits_BV: jax.Array, seen_BV: jax.Array | None, keys_B: jax.Array) -> jax.Array:
        """Return a token for each row, int32, drawn with the row's own key.

        The order is that of transformers: penalty, bans, temperature, top-k, top-p, min-p.
        """
        if self.repetition_penalty is not None and seen_BV is not None:
            logits_BV = penalise(logits_BV, seen_BV, self.repetition_penalty)
        logits_BV = mask_logits(logits_BV, [*self.banned, *range(self.vocab_size, logits_BV.shape[-1])])
        if self.temperature is None:
            return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
        logits_BC, tokens_BC = logits_BV / self.temperature, None
        if 0 < self.top_k < self.vocab_size:  # all that follows looks at these alone
            logits_BC, tokens_BC = jax.lax.top_k(logits_BC, self.top_k)
        if self.top_p is not None:
            logits_BC = keep_top_p(logits_BC, self.top_p)
        if self.min_p is not None:
            logits_BC = keep_min_p(logits_BC, self.min_p)
        drawn_B = jax.vmap(jax.random.categorical)(keys_B, logits_BC).astype(jnp.int32)
        if tokens_BC is None:
            return drawn_B
        return jnp.take_along_axis(tokens_BC, drawn_B[:, None], axis=1)[:, 0]


def choice(
    vocab_size: int,
    *,
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] = (),
) -> Choice:
    """Return how tokens are chosen; values that change nothing switch a filter off, and temperature 0 all of them.

    ConfigError when every token is banned.
    """
    forbidden = tuple(sorted({index for index in banned if 0 <= index < vocab_size}))
    if len(forbidden) == vocab_size:
        raise ConfigError(f"all {vocab_size} tokens of the vocabulary are banned; leave one")
    draws = temperature > 0.0
    return Choice(
        vocab_size=vocab_size,
        banned=forbidden,
        top_k=top_k if draws else 0,
        temperature=temperature if draws else None,
        top_p=top_p if draws and top_p < 1.0 else None,
        min_p=min_p if draws and min_p > 0.0 else None,
        repetition_penalty=repetition_penalty if repetition_penalty != 1.0 else None,
    )
