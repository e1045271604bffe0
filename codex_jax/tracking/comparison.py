"""Where the ledgers of two runs part, in memory that does not grow with the runs."""

import heapq
import itertools
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax.tracking import ledger


# How fast a run was says nothing about what it computed.
_ASIDE = "speed"
_ABSENT = object()


class Parting(NamedTuple):
    """The first value that is not the same in both; None is a number that is not finite, or no such metric."""

    step: int
    split: str
    metric: str
    a: float | None
    b: float | None


class Comparison(NamedTuple):
    """How two ledgers of metrics relate."""

    rows: int
    """of one step and split that both have"""
    only_a: int
    only_b: int
    first: Parting | None
    final: dict[str, tuple[float | None, float | None]]
    """the latest value of each split/metric, those of speed too"""

    @property
    def is_equal(self) -> bool:
        """Return whether both have the same rows with the same values."""
        return self.first is None and not self.only_a and not self.only_b


def compare(one: Path, other: Path) -> Comparison:
    """Compare the metrics of two run directories, times and speed aside; AssetError when one is missing or damaged."""
    latest: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    rows, only, first = 0, [0, 0], None
    tagged = (_steps(one, 0, latest[0]), _steps(other, 1, latest[1]))
    merged = heapq.merge(*tagged, key=operator.itemgetter(0, 1))
    for step, group in itertools.groupby(merged, operator.itemgetter(0)):
        found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for _, side, splits in group:
            found[side].update(splits)
        both = [split for split in found[0] if split in found[1]]
        rows += len(both)
        only = [count + len(side) - len(both) for count, side in zip(only, found, strict=True)]
        for split in both if first is None else ():
            first = first or _parting(step, split, found[0][split], found[1][split])
    names = dict.fromkeys([*latest[0], *latest[1]])
    return Comparison(
        rows, only[0], only[1], first, {name: (latest[0].get(name), latest[1].get(name)) for name in names}
    )


def _steps(workdir: Path, side: int, latest: dict[str, Any]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (step, side, metrics by split) in the order of the steps, and remember the latest values."""
    for step, rows in itertools.groupby(ledger.read(workdir / ledger.METRICS), operator.itemgetter("step")):
        splits = {}
        for row in rows:
            split = str(row.get("split"))
            latest.update({f"{split}/{name}": value for name, value in row["metrics"].items()})
            if split != _ASIDE:
                splits[split] = row["metrics"]
        yield step, side, splits


def _parting(step: int, split: str, a: dict[str, Any], b: dict[str, Any]) -> Parting | None:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name, _ABSENT) != b.get(name, _ABSENT):
            return Parting(step, split, name, a.get(name), b.get(name))
    return None
