"""A batch of prompts continued on the device, read back a few tokens at a time.

B batch · E ends
"""

import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from codex_jax.generation import decode
from codex_jax.generation.decode import Decoding, Weights
from codex_jax.generation.sampling import Choice


class Limits(NamedTuple):
    """When a row ends."""

    num_tokens: int
    ends: tuple[int, ...]
    """tokens after which nothing follows"""
    chunk: int
    """tokens between two looks at what was written"""


def write(
    decoding: Decoding,
    weights: Weights,
    choice: Choice,
    prompts: Sequence[Sequence[int]],
    keys_B: jax.Array,
    limits: Limits,
    is_done: Callable[[int, list[int]], bool],
) -> Iterator[list[list[int]]]:
    """Yield the tokens that follow each prompt, without the one that ends it, each time with those before.

    Rows of the batch behind the last prompt are empty. `is_done(row, tokens)` ends a row that has not ended by itself.
    """
    ends_E = np.array(limits.ends, np.int32)
    tokens_BP, starts_B = decode.padded(prompts, len(keys_B))
    length = tokens_BP.shape[1]
    room = decode.bucket(limits.num_tokens)
    state = decoding.begin(weights, choice, tokens_BP, starts_B, keys_B, ends_E, room=room)
    while True:
        done, tokens_BM, ended_B = jax.device_get((state.done, state.tokens_BM, state.ended_B))
        rows = [_until(row[length : length + int(done)].tolist(), limits.ends) for row in tokens_BM[: len(prompts)]]
        yield rows
        ended_B = ended_B | np.array([row < len(rows) and is_done(row, rows[row]) for row in range(len(ended_B))])
        if done >= limits.num_tokens or ended_B.all():
            return
        until = np.int32(min(int(done) + limits.chunk, limits.num_tokens))
        state = decoding.go_on(weights, choice, state, ends_E, ended_B, until, prompt=length)


def last(rows: Iterator[list[list[int]]]) -> list[list[int]]:
    """Return what `write` yields at the end."""
    return deque(rows, maxlen=1)[0]


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


def keys(seed: int, prompts: Sequence[Sequence[int]]) -> jax.Array:
    """Return a key for each prompt, of the prompt itself and of how often it came before: the others have no say."""
    root, met = jax.random.key(seed), Counter[int]()
    made = []
    for prompt in prompts:
        name = zlib.crc32(np.array(prompt, np.int32).tobytes())
        made.append(jax.random.fold_in(jax.random.fold_in(root, name), met[name]))
        met[name] += 1
    return jax.numpy.stack(made)
