"""Rows of one length for those who want arrays of a batch: cut, filled up, and a mask that says where text is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codex_jax.errors import ConfigError
from codex_jax.tokenizers.tokenizer import Tokenizer


class Padded(NamedTuple):
    """A batch of rows of one length."""

    ids_BL: np.ndarray
    """int32"""
    mask_BL: np.ndarray
    """bool: True where there is text"""


def truncate(rows: Sequence[np.ndarray], max_length: int) -> list[np.ndarray]:
    """Return the rows, each without what goes beyond `max_length` tokens."""
    if max_length < 1:
        raise ConfigError(f"max_length={max_length} leaves nothing of a text; the least is 1")
    return [row[:max_length] for row in rows]


def pad_to(rows: Sequence[np.ndarray], length: int, pad_id: int) -> Padded:
    """Return the rows filled up with `pad_id`; ConfigError when one is longer than `length`."""
    sizes = [row.size for row in rows]
    longest = max(sizes, default=0)
    if longest > length:
        raise ConfigError(f"a row has {longest} tokens, more than {length}; truncate the rows first")
    mask_BL = np.arange(length)[None] < np.array(sizes, np.int64)[:, None]
    ids_BL = np.full(mask_BL.shape, pad_id, np.int32)
    ids_BL[mask_BL] = np.concatenate([np.empty(0, np.int32), *rows])
    return Padded(ids_BL, mask_BL)


def encode(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Padded:
    """Return the texts as rows of exactly `length` tokens, cut or filled up.

    What fills up is the tokenizer's padding token, without one its end token, as is usual for GPT-2; the mask tells
    the two apart. ConfigError when it has neither.
    """
    pad_id = tokenizer.eos_id if tokenizer.pad_id is None else tokenizer.pad_id
    if pad_id is None:
        raise ConfigError("the tokenizer has neither a padding nor an end token to fill rows up with; truncate only")
    return pad_to(truncate(tokenizer.encode(texts), length), length, pad_id)


def decode(tokenizer: Tokenizer, batch: Padded) -> list[str]:
    """Return the text of each row without what filled it up."""
    return [tokenizer.decode(ids[mask].tolist()) for ids, mask in zip(*batch, strict=True)]
