"""From rows of the ledger to calls of a sink: the same for a row that was just written and for one of long ago."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codex_jax import digest
from codex_jax.tracking import ledger
from codex_jax.tracking.sink import Source


# What the machine was at: rows of numbers that depend on the time, so they are no part of the ledger.
SYSTEM = "system.ndjson"
REPORT = "report.html"

Call = tuple[str, tuple[Any, ...]]  # a method of Sink and its arguments


def history(source: Source) -> Iterator[Call]:
    """Yield what the run's files held when `source.sizes` were taken, in the order of each; all of it without sizes."""
    workdir, sizes = source.workdir, source.sizes
    for row in ledger.read(workdir / ledger.METRICS, until=sizes.get(ledger.METRICS)):
        yield scalars(row)
    for row in machine(workdir, until=sizes.get(SYSTEM)):
        yield scalars(row)
    step = 0
    for row in ledger.read(workdir / ledger.EVENTS, until=sizes.get(ledger.EVENTS)):
        step = row["step"]
        if call := of_event(workdir, row):
            yield call
    yield from report(workdir, step)


def machine(workdir: Path, *, until: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield what the machine was at as rows of the split "system"; `until` is as for `ledger.read`."""
    if (workdir / SYSTEM).exists():
        for row in ledger.read(workdir / SYSTEM, until=until):
            yield {**row, "split": "system"}


def began(workdir: Path) -> float | None:
    """Return when the run said its first word, in seconds since 1970; None when it has not."""
    events = workdir / ledger.EVENTS
    return next((row["time"] for row in ledger.read(events)), None) if events.exists() else None


def newest(source: Source) -> tuple[int, float]:
    """Return the last step and the last time of the rows of metrics that are history; -1 and 0 where there are none."""
    step, time = -1, 0.0
    for row in ledger.read(source.workdir / ledger.METRICS, until=source.sizes.get(ledger.METRICS)):
        step, time = max(step, row["step"]), max(time, row["time"])
    return step, time


def of_event(workdir: Path, row: Mapping[str, Any]) -> Call | None:
    """Return the call for an event; None for one that is the ledger's alone.

    So is a file that is no longer what it was: a later event has what took its place.
    """
    step, time = row["step"], row["time"]
    match row["event"]:
        case "sample":
            return text(row)
        case "histogram":
            return "histogram", (step, row["name"], row["edges"], row["counts"], time)
        case ledger.FIGURE | ledger.ARTIFACT:
            call = file(workdir, row)
            return call if call and digest.of_file(call[1][2]) == row["sha256"] else None
    return None


def file(workdir: Path, row: Mapping[str, Any]) -> Call | None:
    """Return the call for a file that was just recorded; None where it is not below the run directory."""
    path = (workdir / row["file"]).resolve()
    # A ledger that came from elsewhere could name any file of this machine, to be sent to a server.
    if path.is_relative_to(workdir.resolve()) and path.is_file():
        return row["event"], (row["step"], row["name"], path, row["time"])
    return None


def report(workdir: Path, step: int) -> Iterator[Call]:
    """Yield the call for the report, if there is one: it is made from the ledger, so no event tells of it."""
    path = workdir / REPORT
    if path.is_file() and not path.is_symlink():
        yield "artifact", (step, REPORT, path, round(path.stat().st_mtime, 3))


def scalars(row: Mapping[str, Any]) -> Call:
    """Return the call for a row of metrics."""
    values = {name: float("nan") if value is None else value for name, value in row["metrics"].items()}
    return "scalars", (row["step"], row["split"], values, row["time"])


def text(row: Mapping[str, Any]) -> Call:
    """Return the call for a sample."""
    # A lone surrogate is legal in the ledger's JSON and in nothing that encodes to UTF-8.
    shown = row["text"].encode("utf-8", "replace").decode("utf-8")
    return "text", (row["step"], row["name"], shown, row["time"])
