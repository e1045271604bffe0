"""What became of the documents, written down: the exceptions one by one with their place, the rest as counts."""

from typing import Any

from codex_jax.console import warn
from codex_jax.data.report import Report
from codex_jax.tracking.writer import Writer


COUNTED = ("read", "trained", "held_out", "filtered", "quarantined")


def counts(report: Report) -> dict[str, Any]:
    """Return how many documents met which end, and what was redacted by rule."""
    return {name: getattr(report, name) for name in COUNTED} | {"redactions": dict(report.redactions)}


def write_exceptions(writer: Writer, step: int, split: str, report: Report) -> None:
    """Write an event for each row that could not be read and each redaction the report lists."""
    for row in report.rows:
        if row.ends_file:
            warn(str(row))
        writer.event("data.quarantined", step, {"split": split, **row._asdict()})
    for finding in report.findings:
        writer.event("safety.redacted", step, {"split": split, **finding._asdict()})
