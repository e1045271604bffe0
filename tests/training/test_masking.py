"""What is hidden: how much, where, what stands there instead, and that chance is drawn from the key alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codex_jax.training import masking
from codex_jax.training.losses import Lesson


pytestmark = pytest.mark.model

MASK, SPECIAL, VOCAB = 4, (0, 1, 2, 3, 4), 1000
HIDE = jax.jit(masking.hide, static_argnums=0)
HIDING = masking.Hiding(0.15, 0.8, 0.1, MASK, VOCAB, SPECIAL)


def batch(rows: int = 64, length: int = 128) -> tuple[np.ndarray[Any, Any], ...]:
    """Rows of text with special tokens in it, tokens that are not learnt, and padding behind."""
    rng = np.random.default_rng(0)
    tokens_BL = rng.integers(5, VOCAB, (rows, length)).astype(np.int32)
    tokens_BL[:, ::10] = rng.integers(0, 5, tokens_BL[:, ::10].shape)
    weights_BL = np.ones((rows, length), np.float32)
    weights_BL[:, 3:9] = 0.0
    ends_B = rng.integers(length // 2, length, rows)
    weights_BL[np.arange(length)[None] >= ends_B[:, None]] = 0.0
    segments_BL = (weights_BL > 0).astype(np.int32)
    positions_BL = np.broadcast_to(np.arange(length, dtype=np.int32), tokens_BL.shape)
    return tokens_BL, tokens_BL, weights_BL, segments_BL, positions_BL


def hidden(hiding: masking.Hiding, seed: int = 0, rows: int = 64) -> tuple[Lesson, np.ndarray[Any, Any]]:
    """A prepared batch, and the places it asks for as a mask over the rows."""
    lesson = HIDE(hiding, batch(rows), jax.random.key(seed))
    asked_BL = np.zeros(lesson.tokens_BL.shape, bool)
    assert lesson.places_BT is not None
    np.put_along_axis(asked_BL, np.asarray(lesson.places_BT), np.asarray(lesson.weights_BL) > 0, axis=1)
    return lesson, asked_BL


def test_share_of_the_tokens_is_asked_for_and_parted_as_published() -> None:
    tokens_BL, _, weights_BL, _, _ = batch(512)
    lesson, asked_BL = hidden(HIDING, rows=512)
    may_BL = (weights_BL > 0) & ~np.isin(tokens_BL, SPECIAL)
    assert asked_BL.sum() / may_BL.sum() == pytest.approx(0.15, abs=0.003)
    shown, said = np.asarray(lesson.tokens_BL)[asked_BL], tokens_BL[asked_BL]
    assert np.mean(shown == MASK) == pytest.approx(0.8, abs=0.02)
    assert np.mean(shown == said) == pytest.approx(0.1, abs=0.02)
    assert np.mean((shown != said) & (shown != MASK)) == pytest.approx(0.1, abs=0.02)


def test_every_row_gives_its_own_share_but_for_one_token() -> None:
    tokens_BL, _, weights_BL, _, _ = batch()
    _, asked_BL = hidden(HIDING)
    share_B = 0.15 * ((weights_BL > 0) & ~np.isin(tokens_BL, SPECIAL)).sum(axis=1)
    assert np.abs(asked_BL.sum(axis=1) - share_B).max() < 1.0


@pytest.mark.parametrize("share", [0.15, 0.9])
def test_never_asked_for_are_special_tokens_padding_and_what_is_not_learnt(share: float) -> None:
    tokens_BL, _, weights_BL, _, _ = batch()
    for seed in range(5):
        _, asked_BL = hidden(HIDING._replace(share=share), seed)
        assert not asked_BL[weights_BL == 0].any()
        assert not asked_BL[np.isin(tokens_BL, SPECIAL)].any()


def test_what_is_not_asked_for_stays_and_targets_are_the_tokens_themselves() -> None:
    tokens_BL, _, _, segments_BL, positions_BL = batch()
    lesson, asked_BL = hidden(HIDING)
    assert np.array_equal(np.asarray(lesson.tokens_BL)[~asked_BL], tokens_BL[~asked_BL])
    assert np.array_equal(lesson.segments_BL, segments_BL) and np.array_equal(lesson.positions_BL, positions_BL)
    assert lesson.places_BT is not None
    assert np.array_equal(lesson.targets_BL, np.take_along_axis(tokens_BL, np.asarray(lesson.places_BT), axis=1))


def test_every_token_is_asked_for_sooner_or_later_and_a_key_decides_which() -> None:
    tokens_BL, _, weights_BL, _, _ = batch(8)
    found = [hidden(HIDING, seed, 8)[1] for seed in range(80)]
    assert np.array_equal(found[0], hidden(HIDING, 0, 8)[1]) and not np.array_equal(found[0], found[1])
    assert np.array_equal(np.any(found, axis=0), (weights_BL > 0) & ~np.isin(tokens_BL, SPECIAL))


def test_shares_of_what_stands_there_instead() -> None:
    tokens_BL = batch()[0]
    lesson, asked_BL = hidden(HIDING._replace(masked=1.0, random=0.0))
    assert (np.asarray(lesson.tokens_BL)[asked_BL] == MASK).all()
    lesson, asked_BL = hidden(HIDING._replace(masked=0.0, random=0.0))
    assert np.array_equal(lesson.tokens_BL, tokens_BL)
    lesson, asked_BL = hidden(HIDING._replace(masked=0.0, random=1.0))
    random = np.asarray(lesson.tokens_BL)[asked_BL]
    assert np.mean(random == tokens_BL[asked_BL]) < 0.02 and random.min() >= 0 and random.max() < VOCAB


def test_a_row_with_nothing_to_ask_for_asks_for_nothing() -> None:
    tokens_BL, targets_BL, weights_BL, segments_BL, positions_BL = batch(4)
    lesson = masking.hide(
        HIDING, (tokens_BL, targets_BL, jnp.zeros_like(weights_BL), segments_BL, positions_BL), jax.random.key(0)
    )
    assert float(jnp.sum(lesson.weights_BL)) == 0 and np.array_equal(lesson.tokens_BL, tokens_BL)
