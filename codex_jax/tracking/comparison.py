"""Where the ledgers of two runs part, in memory that does not grow with the runs."""

import heapq
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax.tracking import ledger


# How fast a run was, and whether the disk took what it saved, says nothing about what it computed.
_ASIDE = ("speed", "system", "checkpoint")
# Of an event what is another in each run; where files lie, and the key of this machine's hashes.
_ASIDE_OF_EVENTS = ("run_id", "time", "chain", "file", "hash")
Row = Mapping[str, Any]
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


class Happening(NamedTuple):
    """The first event that is not the same in both; None for a value that one has not."""

    step: int
    event: str
    field: str
    a: Any
    b: Any


def compare(one: Path, other: Path, counts: Callable[[Row], bool] = lambda row: True) -> Comparison:
    """Compare the metrics of two run directories, times and speed aside; AssetError when one is missing or damaged.

    `counts` says which rows do.
    """
    latest: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    rows, only, first = 0, [0, 0], None
    tagged = (_steps(one, 0, latest[0], counts), _steps(other, 1, latest[1], counts))
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


def compare_events(one: Path, other: Path, counts: Callable[[Row], bool]) -> tuple[int, Happening | None]:
    """Return how many events of data, safety and samples are equal from the first on, and where two are not.

    Only what a run writes again when it repeats a step is compared: who started it when is another matter.
    """
    number = 0
    for a, b in itertools.zip_longest(_events(one, counts), _events(other, counts)):
        if a != b:
            return number, _happening(a or {}, b or {})
        number += 1
    return number, None


def _events(workdir: Path, counts: Callable[[Row], bool]) -> Iterator[dict[str, Any]]:
    for row in ledger.read(workdir / ledger.EVENTS):
        if ledger.is_replayed(row["event"]) and counts(row):
            yield {name: value for name, value in row.items() if name not in _ASIDE_OF_EVENTS}


def _happening(a: Row, b: Row) -> Happening:
    there = a or b
    if not (a and b) or (a["step"], a["event"]) != (b["step"], b["event"]):
        told = [f"{row['event']} of step {row['step']}" if row else None for row in (a, b)]
        return Happening(min(row["step"] for row in (a, b) if row), there["event"], "event", *told)
    name = next(name for name in dict.fromkeys([*a, *b]) if a.get(name, _ABSENT) != b.get(name, _ABSENT))
    return Happening(a["step"], a["event"], name, a.get(name), b.get(name))


def _steps(
    workdir: Path, side: int, latest: dict[str, Any], counts: Callable[[Row], bool]
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (step, side, metrics by split) in the order of the steps, and remember the latest values."""
    counted = filter(counts, ledger.read(workdir / ledger.METRICS))
    for step, rows in itertools.groupby(counted, operator.itemgetter("step")):
        splits = {}
        for row in rows:
            split = str(row.get("split"))
            latest.update({f"{split}/{name}": value for name, value in row["metrics"].items()})
            if split not in _ASIDE:
                splits[split] = row["metrics"]
        yield step, side, splits


def _parting(step: int, split: str, a: dict[str, Any], b: dict[str, Any]) -> Parting | None:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name, _ABSENT) != b.get(name, _ABSENT):
            return Parting(step, split, name, a.get(name), b.get(name))
    return None
