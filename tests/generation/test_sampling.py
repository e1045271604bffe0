"""Filters of logits beside transformers' own, and what is chosen."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codex_jax.errors import ConfigError
from codex_jax.generation import sampling


pytestmark = pytest.mark.model

LOGITS_BV = np.random.default_rng(0).normal(0.0, 3.0, (5, 70)).astype(np.float32)
SEEN = np.random.default_rng(1).integers(0, 70, (5, 9))


def narrowed(logits_BV: jax.Array, top_k: int) -> jax.Array:
    kept, tokens = jax.lax.top_k(logits_BV, top_k)
    return jnp.full_like(logits_BV, -jnp.inf).at[jnp.arange(5)[:, None], tokens].set(kept)


def seen() -> jax.Array:
    return jnp.zeros((5, 70), bool).at[jnp.arange(5)[:, None], SEEN].set(True)


@pytest.mark.parametrize(
    ("warper", "value", "ours"),
    [
        ("TopKLogitsWarper", 7, lambda x: narrowed(x, 7)),
        ("TopPLogitsWarper", 0.8, lambda x: sampling.keep_top_p(x, 0.8)),
        ("TopPLogitsWarper", 0.05, lambda x: sampling.keep_top_p(x, 0.05)),
        ("MinPLogitsWarper", 0.1, lambda x: sampling.keep_min_p(x, 0.1)),
        ("RepetitionPenaltyLogitsProcessor", 1.7, lambda x: sampling.penalise(x, seen(), 1.7)),
        ("TemperatureLogitsWarper", 0.6, lambda x: x / 0.6),
    ],
)
def test_filters_equal_transformers(
    torch_oracle: ModuleType, warper: str, value: Any, ours: Callable[[jax.Array], jax.Array]
) -> None:
    import transformers

    made = getattr(transformers, warper)(value)
    expected = made(torch_oracle.from_numpy(SEEN), torch_oracle.from_numpy(LOGITS_BV.copy())).numpy()
    np.testing.assert_allclose(np.asarray(ours(jnp.asarray(LOGITS_BV))), expected, rtol=1e-6)


def test_mask_logits_takes_lists_and_the_last_axis() -> None:
    masked = np.asarray(sampling.mask_logits([0, 1, 2, 3], {1, 3}))
    assert masked.tolist() == [0.0, -np.inf, 2.0, -np.inf]
    masked = np.asarray(sampling.mask_logits(jnp.asarray(LOGITS_BV), [0, 69, 70, -1, 1000]))
    assert np.isneginf(masked[:, [0, 69]]).all() and np.array_equal(masked[:, 1:69], LOGITS_BV[:, 1:69])


def draws(count: int = 4000, **how: Any) -> np.ndarray[Any, Any]:
    keys_B = jax.random.split(jax.random.key(0), count)
    logits_BV = jnp.broadcast_to(LOGITS_BV[:1], (count, 70))
    seen_BV = jnp.zeros((count, 70), bool).at[:, int(LOGITS_BV[0].argmax())].set(True)
    return np.asarray(jax.jit(sampling.choice(**({"vocab_size": 70} | how)))(logits_BV, seen_BV, keys_B))


def test_draws_follow_the_probabilities_that_are_left() -> None:
    left = np.asarray(sampling.keep_min_p(sampling.keep_top_p(narrowed(jnp.asarray(LOGITS_BV) / 1.5, 10), 0.9), 0.05))
    expected = np.exp(left[0]) / np.exp(left[0]).sum()
    found = np.bincount(draws(temperature=1.5, top_k=10, top_p=0.9, min_p=0.05), minlength=70) / 4000
    assert np.abs(found - expected).max() < 0.03 and not found[expected == 0].any()
    free = np.bincount(draws(temperature=1.0), minlength=70) / 4000
    assert np.abs(free - np.asarray(jax.nn.softmax(LOGITS_BV[0]))).max() < 0.03


def test_greedy_choice_is_the_likeliest_that_is_allowed() -> None:
    best = np.argsort(-LOGITS_BV[0])
    assert set(draws(1, temperature=0.0)) == {best[0]}
    assert set(draws(1, temperature=0.0, banned=[int(best[0]), 999])) == {best[1]}
    assert set(draws(1, temperature=0.0, repetition_penalty=50.0)) == {best[1]}
    assert draws(1, temperature=0.0, vocab_size=int(best[0])).max() < best[0]
    assert set(draws(1, temperature=2.0, top_p=1e-6)) == set(draws(1, temperature=2.0, min_p=1.0)) == {best[0]}


def test_all_tokens_banned_is_refused() -> None:
    with pytest.raises(ConfigError, match="all 3 tokens"):
        sampling.choice(3, temperature=0.0, banned=range(3))
