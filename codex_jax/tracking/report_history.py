"""The part of report.html about a run's life: what it saved, when it was started, and how each start ended."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from codex_jax import amounts, schema
from codex_jax.tracking import report_sections
from codex_jax.tracking.report_facts import STARTS, Facts, moment


COMMIT_CHARS = DIGEST_CHARS = 12
_OF_EVERY_EVENT = ("run_id", "step", "time", "event", "chain")
# Said by every start in its own way; the rest of what it was made with is news only where it has changed.
_OF_EVERY_START = (*_OF_EVERY_EVENT, "from_step", "skipped", "commit", "dirty")


def history(facts: Facts) -> str:
    """Return the saves and the events of the run's life."""
    saved = [
        (row["step"], moment(row["time"]), _size(row.get("bytes")), _digest(row.get("digest")))
        for row in facts.checkpoints.items()
    ]
    names = ("step", "time", "size", "digest")
    body = report_sections.table(names, saved) if saved else "<p class=empty>Nothing was saved yet.</p>"
    listed = list(_events(facts.life.items()))
    if listed:
        events = report_sections.table(("step", "time", "event", "details"), listed)
        body += f"<h3>Events</h3><div class=events>{events}</div>"
    return report_sections.section("Saves and events", body)


def _events(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str, str, str]]:
    before: dict[str, Any] = {}
    for row in rows:
        details = list(_plain(row))
        if row["event"] in STARTS:
            made_with = dict(schema.flatten({name: row[name] for name in row if name not in _OF_EVERY_START}))
            details = [*_start(row), *(_changes(before, made_with) if before else ())]
            before = made_with
        yield row["step"], moment(row["time"]), str(row["event"]), " · ".join(details)


def _start(row: Mapping[str, Any]) -> Iterator[str]:
    if "from_step" in row:
        yield f"from step {row['from_step']:,}"
    for step, reason in row.get("skipped") or ():
        yield f"checkpoint {step} refused: {reason}"
    if row.get("commit"):
        yield f"commit {str(row['commit'])[:COMMIT_CHARS]}{' with changes' if row.get('dirty') else ''}"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a run goes on with that is not what it had before."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if old != new:
            yield f"{name.removeprefix('versions.')} {_text(old)} \N{RIGHTWARDS ARROW} {_text(new)}"


def _plain(row: Mapping[str, Any]) -> Iterator[str]:
    for name, value in schema.flatten({name: row[name] for name in row if name not in _OF_EVERY_EVENT}):
        if name.endswith("_bytes"):
            name, value = name.removesuffix("_bytes"), _size(value)
        yield f"{name.replace('_', ' ')} {_text(value)}"


def _text(value: Any) -> str:
    return "none" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _size(value: Any) -> str:
    return amounts.size(value) if isinstance(value, (int, float)) else ""


def _digest(value: Any) -> str:
    return str(value or "")[:DIGEST_CHARS]
