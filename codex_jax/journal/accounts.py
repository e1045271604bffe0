"""What became of the documents, written down: the exceptions one by one with their place, the rest as counts."""

from typing import Any

from codex_jax.console import warn
from codex_jax.data.report import Report
from codex_jax.safety.gate import Verdict
from codex_jax.tracking.writer import Writer


COUNTED = ("read", "trained", "held_out", "filtered", "quarantined", "blocked", "duplicates")


def counts(report: Report) -> dict[str, Any]:
    """Return how many documents met which end, and what the safety policy found, by action and rule."""
    return {name: getattr(report, name) for name in COUNTED} | {"safety": dict(report.safety)}


def write_exceptions(writer: Writer, step: int, split: str, report: Report) -> None:
    """Write an event for each row that could not be read and each finding of the safety policy the report lists."""
    for row in report.rows:
        if row.ends_file:
            warn(str(row))
        writer.event("data.quarantined", step, {"split": split, **row._asdict()})
    for found in report.findings:
        writer.event(event_of(found.action), step, {"split": split, **found._asdict()})


def write_verdict(writer: Writer, step: int, stage: str, verdict: Verdict) -> None:
    """Write an event for each finding in a text that is in no file: a prompt, a sample."""
    for found in verdict.findings:
        writer.event(event_of(found.action), step, {"stage": stage, **found._asdict()})


def event_of(action: str) -> str:
    """Return what the ledger calls a decision of the safety policy."""
    return "safety." + {"redact": "redacted", "block": "blocked", "flag": "flagged", "bypass": "bypassed"}[action]
