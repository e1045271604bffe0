"""What became of every document that was read: the counts add up, and every exception is named with its place."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from codex_jax import console
from codex_jax.errors import TrainingStopped


# A share of fewer documents says little, unless they are all there are: bad rows come in bunches.
_ENOUGH_TO_JUDGE = 1000
# How many bad rows the message quotes.
_SHOWN = 5
# How the reason begins where one bad row stands for all that follows in its file.
REST = "the rest of the file is not read"


class Found(NamedTuple):
    """Something the safety policy found in a document. What it was is not kept."""

    rule: str
    action: str
    """redact, block, flag or bypass"""
    stage: str
    file: str
    offset: int | None
    """of the document in the text of the file, in bytes; None in tables"""
    start: int
    """of the finding in the document, in characters"""
    end: int
    document: str
    """SHA-256 of the document"""
    line: int | None = None
    """of the document, where the source knows it; in tables the number of its row, from 1"""
    hash: str = ""
    """keyed hash of what was found; none in a store, which is to be the same on every machine"""


class Quarantined(NamedTuple):
    """A row that could not be read."""

    file: str
    line: int | None
    """from 1, in tables of the row; None behind the first GiB of a file"""
    offset: int | None
    """in bytes of the text; None in tables"""
    reason: str

    @property
    def ends_file(self) -> bool:
        """Whether all that follows in the file is missing, too."""
        return self.reason.startswith(REST)

    def __str__(self) -> str:
        line = "" if self.line is None else f":{self.line}"
        byte = "" if self.offset is None else f" (byte {self.offset})"
        return f"{self.file}{line}{byte}: {self.reason}"


@dataclasses.dataclass(kw_only=True)
class Report:
    """Counts of documents; `read` is the sum of the next five."""

    read: int = 0
    trained: int = 0
    """reached a batch; in the report of a validation split, reached validation"""
    held_out: int = 0
    """belong to another split, or lie in the files of validation as well"""
    filtered: int = 0
    """hold nothing to learn from: no text, or nothing but what was redacted"""
    quarantined: int = 0
    """could not be read"""
    blocked: int = 0
    """must not pass, by the safety policy"""
    duplicates: int = 0
    """of all these, copies of what is validated on in files of its own"""
    bytes: int = 0
    """of what the trained documents say, in UTF-8, before redaction"""
    tokens: int = 0
    """of the trained documents, with one for each end"""
    safety: Counter[str] = dataclasses.field(default_factory=Counter)
    """findings by action and rule: redact/email"""
    findings: list[Found] = dataclasses.field(default_factory=list)
    rows: list[Quarantined] = dataclasses.field(default_factory=list)
    """the quarantined ones"""

    def add(self, other: "Report") -> None:
        """Count the documents of another report as well."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Blocked(TrainingStopped):
    """A document that must not pass ended the work; `report` counts it alone, with what was found in it."""

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)  # a process that sends it on makes it of the message, then adds the report
        self.report = report or Report()


class Quarantine:
    """Watches the share of unreadable documents over everything consumed so far, and says where a file ended early.

    One row in the counts can be most of the data. Several readers may meet it in one command: it is said once.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.read = 0
        self.quarantined = 0
        self._examples: list[Quarantined] = []

    def check(self, reports: Sequence[Report], *, complete: bool) -> None:
        """Count reports; TrainingStopped when too many documents could not be read.

        It judges from 1,000 documents on, or when `complete` says that every document was counted once.
        """
        for report in reports:
            self.read += report.read
            self.quarantined += report.quarantined
            self._examples += report.rows[: _SHOWN - len(self._examples)]
            for row in report.rows:
                if row.ends_file:
                    console.warn(str(row))
        if not self.read or not (complete or self.read >= _ENOUGH_TO_JUDGE):
            return
        share = self.quarantined / self.read
        if share > self._limit:
            raise TrainingStopped(
                f"{self.quarantined} of {self.read} documents ({share:.1%}) could not be read, more than "
                f"data.max_quarantined={self._limit}; repair them, name their fields (data.text_field), or raise it. "
                f"{self._shown()}"
            )

    def _shown(self) -> str:
        # A run that goes on has counted rows that an earlier process saw, and a later epoch lists none.
        if not self._examples:
            return "Their places are in events.ndjson, as data.quarantined"
        return "Some of them:" + "".join(f"\n  {row}" for row in self._examples)
