"""Documents of one split of a corpus, redacted, with every other document accounted for."""

import dataclasses
from collections.abc import Iterable, Iterator

from codex_jax import config
from codex_jax.data import documents
from codex_jax.data.corpus import Corpus
from codex_jax.data.documents import BadRow, Document
from codex_jax.data.lines import Lines
from codex_jax.data.report import Quarantined, Redaction, Report
from codex_jax.safety import engine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
    """Documents of one split, redacted; can be sent to other processes."""

    corpus: Corpus
    data: config.Data
    redact: bool
    split: str
    """train or validation; all: every document, whatever data.validation_fraction says"""
    lines: Lines = dataclasses.field(default_factory=Lines, init=False, compare=False)

    def read(self, units: Iterable[int], report: Report) -> Iterator[list[tuple[str, bool]]]:
        """Yield the pieces of each document that belongs to the split, and count all of them in `report`."""
        for file, row in self.corpus.read(units, self.data):
            path = self.corpus.files[file].path
            report.read += 1
            if isinstance(row, BadRow):
                report.quarantined += 1
                report.rows.append(Quarantined(path, self.lines.number(path, row.offset), row.offset, row.reason))
            elif self._other_split(row):
                report.held_out += 1
            elif pieces := self._pieces(path, row, report):
                report.trained += 1
                report.bytes += len(row.content)
                yield pieces
            else:
                report.filtered += 1

    def _other_split(self, document: Document) -> bool:
        if self.split == "all":
            return False
        held_out = documents.is_held_out(document.digest, self.data.validation_fraction)
        return held_out != (self.split == "validation")

    def _pieces(self, path: str, document: Document, report: Report) -> list[tuple[str, bool]]:
        pieces = [(document.text, True)]
        if self.redact:
            pieces, findings = engine.default().redact(document.text)
            for rule, start, end in findings:
                report.redactions[rule] += 1
                report.findings.append(Redaction(rule, path, document.offset, start, end, document.digest))
        return pieces if any(learnt and text.strip() for text, learnt in pieces) else []
