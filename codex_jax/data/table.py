"""The tokens of one split, over all its shards, as one array that stays in files; rows of it as arrays."""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codex_jax.data import shard
from codex_jax.data.batch import Rows
from codex_jax.data.store import Store


# Of these three maps each; Linux allows a process 65,530.
_MOST_OPEN = 8192


class _Maps(NamedTuple):
    tokens_T: np.ndarray
    learnt_bits: np.ndarray
    ends_D: np.ndarray


class Table:
    """Reads what it is asked for and nothing else; owns no more than maps of files."""

    def __init__(self, store: Store, split: str) -> None:
        numbers = [number for number in store.numbers(split) if store.shards[number].tokens]
        self._places = [shard.directory_of(store.directory, number) for number in numbers]
        self._ends_S = np.cumsum([store.shards[number].tokens for number in numbers], dtype=np.int64)
        self._type = "<" + np.dtype(store.content["token type"]).str[1:]
        self._open = functools.lru_cache(_MOST_OPEN)(self._map)

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, with one for each end."""
        return int(self._ends_S[-1]) if len(self._ends_S) else 0

    def num_rows(self, length: int) -> int:
        """Return how many rows of `length` tokens and the one that follows there are; the last may be padded.

        A row begins with the last target of the row before: every token but the first is a target once.
        """
        return -(-max(self.num_tokens - 1, 0) // length)

    def rows(self, numbers_B: np.ndarray, length: int) -> Rows:
        """Return some rows; the documents of each are counted from 0."""
        width = length + 1
        tokens_BM = np.zeros((len(numbers_B), width), np.int32)
        learnt_BM = np.zeros((len(numbers_B), width), bool)
        # One place more, for a document that would begin behind the row.
        begins_BM = np.zeros((len(numbers_B), width + 1), np.int32)
        ends_B = np.zeros(len(numbers_B), np.int64)
        for row, number in enumerate(numbers_B.tolist()):
            at = number * length
            ends_B[row] = self._fill(at, tokens_BM[row], learnt_BM[row], begins_BM[row])
        documents_BM = np.cumsum(begins_BM[:, :-1], axis=1, dtype=np.int32)
        if (ends_B < width).any():
            documents_BM[np.arange(width) >= ends_B[:, None]] = -1
        return Rows(tokens_BM, documents_BM, learnt_BM)

    def _fill(self, at: int, tokens_M: np.ndarray, learnt_M: np.ndarray, begins_M: np.ndarray) -> int:
        """Copy tokens from place `at` on into a row; return how many there were."""
        done, width = 0, tokens_M.size
        index = int(self._ends_S.searchsorted(at, "right"))
        while done < width and index < len(self._places):
            maps = self._open(index)
            low = at + done - (int(self._ends_S[index - 1]) if index else 0)
            high = min(low + width - done, maps.tokens_T.size)
            stop = done + high - low
            tokens_M[done:stop] = maps.tokens_T[low:high]
            bits = np.unpackbits(maps.learnt_bits[low >> 3 : (high + 7) >> 3], bitorder="little")
            learnt_M[done:stop] = bits[low & 7 : (low & 7) + high - low]
            first, last = maps.ends_D.searchsorted((low, high), "right")
            begins_M[maps.ends_D[first:last] - (low - done)] = 1
            done, index = stop, index + 1
        return done

    def _map(self, index: int) -> _Maps:
        return _Maps(*(_mapped(self._places[index] / name, kind) for name, kind in self._kinds()))

    def _kinds(self) -> tuple[tuple[str, str], ...]:
        return ("tokens.bin", self._type), ("learnt.bin", "u1"), ("ends.bin", "<i8")


def _mapped(path: Path, kind: str) -> np.ndarray:
    # A plain array over the map: slicing the subclass costs more than the row it yields.
    return np.asarray(np.memmap(path, kind, "r"))
