"""Read what a run wrote, once, and keep what the report shows, in memory that does not grow with the run."""

import bisect
import collections
import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codex_jax.tracking import calls, ledger
from codex_jax.tracking.curves import Curve


MANY = "layers/"  # of metrics: hundreds with long names, which would bury the others


CURVES = (
    "train/loss",
    "train/learning_rate",
    "train/grad_norm",
    "train/param_norm",
    "speed/tokens_per_sec",
    "speed/mfu",
    "validation/loss",
)
STARTS = ("run.started", "run.resumed")
NUM_SAMPLES = 12
NUM_LISTED = 100
NUM_EVALUATIONS = 20


class Sampled:
    """Keeps the first and the last of a sequence and others evenly between, at most about `limit` of them."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._stride = 1
        self._kept: list[Any] = []
        self._last: Any = None

    def add(self, item: Any) -> None:
        """Take the next item."""
        if self.count % self._stride == 0:
            self._kept.append(item)
        self.count += 1
        self._last = item
        if len(self._kept) > self._limit:
            self._kept, self._stride = self._kept[::2], self._stride * 2

    def items(self) -> list[Any]:
        """Return what was kept, in order."""
        return self._kept if not self._kept or self._kept[-1] is self._last else [*self._kept, self._last]


class Clock:
    """Adds up the time a run was at work: from each start to the last thing it wrote before the next start."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []

    def start(self, time: float) -> None:
        """Note that a process of the run began."""
        self._starts.append(time)
        self._ends.append(time)

    def see(self, time: float) -> None:
        """Note that the run wrote something."""
        if not self._starts:
            self.start(time)
        index = max(0, bisect.bisect_right(self._starts, time) - 1)
        self._ends[index] = max(self._ends[index], time)

    def seconds(self) -> float:
        """Return the time at work."""
        return sum(end - start for start, end in zip(self._starts, self._ends, strict=True))


@dataclasses.dataclass
class Facts:
    """What a run has said about itself."""

    run_id: str = ""
    started: float | None = None
    """seconds since 1970"""
    status: str = "not finished"
    curves: dict[str, Curve] = dataclasses.field(default_factory=lambda: {name: Curve() for name in CURVES})
    last: dict[str, float] = dataclasses.field(default_factory=dict)
    """latest finite value of every split/name"""
    system: dict[str, Curve] = dataclasses.field(default_factory=dict)
    """what the machine was at, by the name of the figure"""
    evaluations: Sampled = dataclasses.field(default_factory=lambda: Sampled(NUM_EVALUATIONS))
    """rows of validation"""
    best: Mapping[str, Any] | None = None
    """the validation row with the smallest loss"""
    start: Mapping[str, Any] | None = None
    """the event run.started"""
    data: Mapping[str, Any] | None = None
    """the latest event data.report"""
    safety: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """events of findings by action and rule"""
    figures: set[int] = dataclasses.field(default_factory=set)
    """steps of which a figure was drawn"""
    samples: Sampled = dataclasses.field(default_factory=lambda: Sampled(NUM_SAMPLES))
    quarantined: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    num_quarantined: int = 0
    checkpoints: Sampled = dataclasses.field(default_factory=lambda: Sampled(NUM_LISTED))
    life: Sampled = dataclasses.field(default_factory=lambda: Sampled(NUM_LISTED))
    """starts, ends and troubles"""
    peak_rss_bytes: int = 0
    """the most that any process of the run has said it took"""
    clock: Clock = dataclasses.field(default_factory=Clock)


def moment(time: float) -> str:
    """Return seconds since 1970 as a date and time in UTC."""
    return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def collect(workdir: Path) -> Facts:
    """Read both files of the ledger; AssetError when one is missing or damaged."""
    facts = Facts()
    for row in _seen(facts, workdir / ledger.EVENTS):
        _take_event(facts, row)
    for row in _seen(facts, workdir / ledger.METRICS):
        _take_metrics(facts, row)
    for row in calls.machine(workdir):
        for name, value in row["metrics"].items():
            facts.system.setdefault(name, Curve()).add(row["step"], value)
    return facts


def _seen(facts: Facts, path: Path) -> Iterator[dict[str, Any]]:
    for row in ledger.read(path):
        facts.run_id = facts.run_id or str(row["run_id"])
        if row.get("event") in STARTS:
            facts.clock.start(row["time"])
        facts.clock.see(row["time"])
        facts.started = row["time"] if facts.started is None else min(facts.started, row["time"])
        yield row


def _take_metrics(facts: Facts, row: Mapping[str, Any]) -> None:
    for name, value in row["metrics"].items():
        full = f"{row['split']}/{name}"
        if full in facts.curves:
            facts.curves[full].add(row["step"], value)
        if value is not None:
            facts.last[full] = value
    if row["split"] == "validation":
        facts.evaluations.add(row)
    loss = row["metrics"].get("loss")
    if (
        row["split"] == "validation"
        and loss is not None
        and (facts.best is None or loss < facts.best["metrics"]["loss"])
    ):
        facts.best = row


def _take_event(facts: Facts, row: Mapping[str, Any]) -> None:
    match row["event"]:
        case "sample":
            facts.samples.add(row)
        case ledger.FIGURE:
            facts.figures.add(row["step"])
        case "data.report":
            facts.data = row
        case "data.quarantined":
            facts.num_quarantined += 1
            if len(facts.quarantined) < NUM_LISTED:
                facts.quarantined.append(row)
        case event if event.startswith("safety.") and "action" in row:
            facts.safety[f"{row['action']}/{row.get('rule')}"] += 1
        case ledger.SAVED:
            facts.checkpoints.add(row)
        case event if not ledger.is_replayed(event) and event != ledger.ARTIFACT:
            facts.life.add(row)
            if event in STARTS:
                facts.status = "not finished"
                facts.start = row if event == "run.started" else facts.start
            elif event == "run.finished":
                facts.status = str(row.get("status"))
                facts.peak_rss_bytes = max(facts.peak_rss_bytes, row.get("peak_rss_bytes") or 0)
