"""Which split a document goes to: its place in the range of a seeded hash, cut by counts or by shares.

Validation has the lowest keys and test the highest, as in `documents.split_of`. Copies have one key, so that they stay
together.
"""

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from codex_jax import amounts
from codex_jax.errors import ConfigError


SPLITS = ("train", "validation", "test")
# Among a billion documents two have the same 128 bits by chance once in 10^21 times.
_KEY_BYTES = 16
_END = 1 << 8 * _KEY_BYTES


def parse(text: str) -> tuple[Fraction, ...]:
    """Return the shares of train, validation and perhaps test, exactly as typed; ConfigError unless they make 1."""
    try:
        shares = tuple(Fraction(part.strip()) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"--fractions={text} is not a list of numbers; write 0.8,0.1,0.1") from None
    problems = []
    if len(shares) not in (2, 3):
        problems.append(
            f"has {amounts.counted(len(shares), 'part')}: give two, for train and validation, or three with test"
        )
    if any(share <= 0 for share in shares):
        problems.append("has a part that is not above 0")
    if sum(shares) != 1:
        problems.append(f"adds up to {float(sum(shares)):g}, not 1")
    if problems:
        raise ConfigError(f"--fractions={text} " + ", and ".join(problems))
    return shares


def key(digest: str, seed: int) -> bytes:
    """Return the key of the document of that digest: its place in the range, equal for copies alone."""
    return hashlib.sha256(f"{seed} {digest}".encode()).digest()[:_KEY_BYTES]


class Keys(NamedTuple):
    """The keys of all documents, each once, in their order."""

    distinct: np.ndarray
    """S16, ascending"""
    copies: np.ndarray
    """int64, how many documents have the key"""

    def rank(self, one: bytes) -> int | None:
        """Return which of the keys one is; None when it is not among them."""
        rank = self._below(one)
        return rank if rank < len(self.distinct) and self.distinct[rank] == np.array(one, self.distinct.dtype) else None

    def number(self, rank: int) -> int:
        """Return the key of a rank as a number; behind the last one, the end of the range."""
        if rank == len(self.distinct):
            return _END
        return int.from_bytes(bytes(self.distinct[rank]).ljust(_KEY_BYTES, b"\0"), "big")

    def num_below(self, number: int) -> int:
        """Return how many keys are smaller than a number of the range."""
        return len(self.distinct) if number == _END else self._below(number.to_bytes(_KEY_BYTES, "big"))

    def _below(self, one: bytes) -> int:
        return int(np.searchsorted(self.distinct, np.array(one, self.distinct.dtype)))


def gather(keys: bytearray) -> Keys:
    """Return the keys that were put one after the other."""
    return Keys(*np.unique(np.frombuffer(keys, f"S{_KEY_BYTES}"), return_counts=True))


class Cuts(NamedTuple):
    """Where the range of keys is cut."""

    validation: int
    """keys below it are of validation"""
    test: int
    """keys from it on are of test"""

    def split(self, one: bytes) -> str:
        """Return the split of the document of that key."""
        place = int.from_bytes(one, "big")
        if place < self.validation:
            return "validation"
        return "test" if place >= self.test else "train"

    def sizes(self, keys: Keys) -> dict[str, int]:
        """Return how many different documents each split has."""
        validation, rest = keys.num_below(self.validation), keys.num_below(self.test)
        return dict(zip(SPLITS, (rest - validation, validation, len(keys.distinct) - rest), strict=True))


def by_count(found: Keys, shares: Sequence[Fraction]) -> Cuts:
    """Return the cuts that give each split its count of different documents."""
    number = len(found.distinct)
    validation, test = [*counts(number, shares), 0][1:3]
    return Cuts(found.number(validation), found.number(number - test))


def by_share(shares: Sequence[Fraction]) -> Cuts:
    """Return the cuts that depend on nothing but the shares: a document stays where it is, whatever others come."""
    validation, test = [*shares, Fraction(0)][1:3]
    return Cuts(math.ceil(validation * _END), math.ceil((1 - test) * _END))


def counts(number: int, shares: Sequence[Fraction]) -> list[int]:
    """Return whole parts of a number: each share rounded down, and what is left to the largest remainders."""
    exact = [number * share for share in shares]
    found = [math.floor(part) for part in exact]
    largest = sorted(range(len(shares)), key=lambda index: (found[index] - exact[index], index))
    for index in largest[: number - sum(found)]:
        found[index] += 1
    return found
