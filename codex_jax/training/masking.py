"""Tokens that are hidden for a model to guess: masked language modelling (Devlin et al. 2018), drawn anew every time.

B batch · L length · T tokens of a row that may be asked for at most · S special tokens
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codex_jax import config
from codex_jax.errors import ConfigError
from codex_jax.tokenizers.tokenizer import Tokenizer
from codex_jax.training.losses import Lesson


Prepare = Callable[[tuple[jax.Array, ...], jax.Array], tuple[Any, ...]]


def make(settings: config.Config, tokenizer: Tokenizer) -> Prepare:
    """Return `prepare(batch, key)`, which makes of a batch what a step learns from; it is compiled into the step.

    With data.objective=causal and classes that is the batch itself. ConfigError when the tokenizer has no token that
    hides others, or none that a class could be read at.
    """
    if settings.data.objective == "classes" and tokenizer.bos_id is None:
        raise ConfigError(
            "data.objective=classes, but the tokenizer has no cls_token, at which the class of a text is read: name "
            "one of an encoder in tokenizer.path, or set tokenizer.kind=wordpiece to train one"
        )
    if settings.data.objective != "masked":
        return as_is
    if tokenizer.mask_id is None:
        raise ConfigError(
            "data.objective=masked, but the tokenizer has no mask_token: name one of an encoder in tokenizer.path, or "
            "set tokenizer.kind=wordpiece to train one"
        )
    train = settings.train
    hiding = Hiding(
        train.masked_fraction,
        train.mask_fraction,
        train.random_fraction,
        tokenizer.mask_id,
        tokenizer.vocab_size,
        tuple(tokenizer.special_tokens.values()),
    )
    return lambda batch, key: hide(hiding, batch, key)


def as_is(batch: tuple[jax.Array, ...], key: jax.Array) -> tuple[jax.Array, ...]:
    """Return the batch: every token says the next, or the first one the class of its row."""
    return batch


class Hiding(NamedTuple):
    """What is hidden, and how."""

    share: float
    """of the tokens that may be learnt"""
    masked: float
    """of those hidden, the share that the mask takes the place of"""
    random: float
    """the share that some token takes the place of; the rest stay as they are"""
    mask_id: int
    vocab_size: int
    special: tuple[int, ...]
    """tokens that are never asked for"""


def hide(hiding: Hiding, batch: tuple[jax.Array, ...], key: jax.Array) -> Lesson:
    """Return the batch with some tokens of each row hidden, and only these to be said.

    Of n tokens that may be asked for n x share are, the fraction by chance; which of them is drawn without replacement.
    Asked for are tokens of weight above 0 that are not special.
    """
    tokens_BL, targets_BL, weights_BL, segments_BL, positions_BL = batch
    batch_size, length = tokens_BL.shape
    for_which, for_rest, for_how, for_what = jax.random.split(key, 4)
    may_BL = (weights_BL > 0) & ~jnp.isin(targets_BL, np.array(hiding.special, np.int32))
    most = min(length, math.ceil(hiding.share * length))
    order_BL = jnp.where(may_BL, jax.random.uniform(for_which, tokens_BL.shape), 2.0)
    places_BT = jnp.argsort(order_BL, axis=1)[:, :most]
    count_B = hiding.share * jnp.sum(may_BL, axis=1) + jax.random.uniform(for_rest, (batch_size,))
    asked_BT = jnp.arange(1, most + 1)[None] <= count_B[:, None]

    def there(array_BL: jax.Array) -> jax.Array:
        return jnp.take_along_axis(array_BL, places_BT, axis=1)

    said_BT, how_BT = there(tokens_BL), jax.random.uniform(for_how, places_BT.shape)
    random_BT = jax.random.randint(for_what, places_BT.shape, 0, hiding.vocab_size, jnp.int32)
    changed_BT = jnp.where(how_BT < hiding.masked + hiding.random, random_BT, said_BT)
    changed_BT = jnp.where(how_BT < hiding.masked, hiding.mask_id, changed_BT)
    shown_BL = jnp.put_along_axis(tokens_BL, places_BT, jnp.where(asked_BT, changed_BT, said_BT), axis=1, inplace=False)
    weights_BT = there(weights_BL) * asked_BT
    return Lesson(shown_BL, there(targets_BL), weights_BT, segments_BL, positions_BL, places_BT)
