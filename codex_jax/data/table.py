"""The tokens of one split, over all its shards, as one array that stays in files; rows of it as arrays."""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codex_jax import config
from codex_jax.data import packing, parting, shard
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
        # int64, the place behind each shard
        self.ends_S = np.cumsum([store.shards[number].tokens for number in numbers], dtype=np.int64)
        self._type = "<" + np.dtype(store.content["token type"]).str[1:]
        self._open = functools.lru_cache(_MOST_OPEN)(self._map)

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, with one for each end."""
        return int(self.ends_S[-1]) if len(self.ends_S) else 0

    def documents(self, index: int) -> np.ndarray:
        """Return the places behind the documents of a shard, counted from its beginning."""
        return self._open(index).ends_D

    def copy(self, at: int, tokens_M: np.ndarray, learnt_M: np.ndarray, begins_M: np.ndarray) -> int:
        """Copy tokens from place `at` on into a row, and 1 where a document begins; return how many there were.

        `begins_M` has one place more, for a document that would begin behind the row.
        """
        done, width = 0, tokens_M.size
        index = int(self.ends_S.searchsorted(at, "right"))
        while done < width and index < len(self._places):
            maps = self._open(index)
            low = at + done - (int(self.ends_S[index - 1]) if index else 0)
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


class ConcatRows:
    """Rows cut from all documents one after the other.

    A row begins with the last target of the row before: every token but the first is a target once.
    """

    def __init__(self, table: Table, length: int) -> None:
        self._table = table
        self._length = length
        self.count = -(-max(table.num_tokens - 1, 0) // length)

    def __call__(self, numbers_B: np.ndarray) -> Rows:
        """Return some rows; the last of all may be padded."""
        size, width = len(numbers_B), self._length + 1
        tokens_BM, learnt_BM = np.zeros((size, width), np.int32), np.zeros((size, width), bool)
        begins_BM, ends_B = np.zeros((size, width + 1), np.int32), np.zeros(size, np.int64)
        for row, number in enumerate(numbers_B.tolist()):
            ends_B[row] = self._table.copy(number * self._length, tokens_BM[row], learnt_BM[row], begins_BM[row])
        documents_BM = np.cumsum(begins_BM[:, :-1], axis=1, dtype=np.int32)
        if (ends_B < width).any():
            documents_BM[np.arange(width) >= ends_B[:, None]] = -1
        return Rows(tokens_BM, documents_BM, learnt_BM)


class FittedRows:
    """Rows that hold documents of one shard, or parts of them, as one of packing.FITS has them.

    Where each goes is computed when the store is opened, and kept: 24 bytes for each part.
    """

    def __init__(self, table: Table, length: int, how: str) -> None:
        self._table = table
        self._width = length + 1
        rows, starts, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        self.count = base = 0
        for index, end in enumerate(table.ends_S.tolist()):
            fit = packing.FITS[how](table.documents(index), length)
            order = np.argsort(fit.rows_P, kind="stable")
            rows.append(fit.rows_P[order] + self.count)
            starts.append(fit.starts_P[order] + base)
            sizes.append(fit.sizes_P[order])
            self.count, base = self.count + fit.num_rows, end
        self._rows_P, self._starts_P, self._sizes_P = (np.concatenate(parts) for parts in (rows, starts, sizes))

    def __call__(self, numbers_B: np.ndarray) -> Rows:
        """Return some rows, each padded behind its last document."""
        shape = (len(numbers_B), self._width)
        tokens_BM, learnt_BM = np.zeros(shape, np.int32), np.zeros(shape, bool)
        documents_BM, ignored = np.full(shape, -1, np.int32), np.zeros(self._width + 1, np.int32)
        firsts_B, lasts_B = (self._rows_P.searchsorted(numbers_B, side) for side in ("left", "right"))
        for row in range(len(numbers_B)):
            at = 0
            for number in range(int(firsts_B[row]), int(lasts_B[row])):
                part = slice(at, at := at + int(self._sizes_P[number]))
                start = int(self._starts_P[number])
                self._table.copy(start, tokens_BM[row, part], learnt_BM[row, part], ignored)
                documents_BM[row, part] = number - firsts_B[row]
        return Rows(tokens_BM, documents_BM, learnt_BM)


def open_rows(store: Store, split: str, data: config.Data) -> ConcatRows | FittedRows:
    """Return the rows of a split, packed as `parting.how` says."""
    table, length, how = Table(store, split), parting.length(data), parting.how(data)
    return ConcatRows(table, length) if how == "concat" else FittedRows(table, length, how)
