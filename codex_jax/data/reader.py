"""Documents of one split of a corpus, redacted and laid out, with every other document accounted for."""

import dataclasses
from collections.abc import Iterable, Iterator

from codex_jax import config
from codex_jax.data import chat, documents
from codex_jax.data.corpus import Corpus
from codex_jax.data.documents import BadRow, Document, Piece, Turn
from codex_jax.data.layout import Layout
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
    """train, validation or test; all: every document, whatever the fractions say"""
    layout: Layout
    lines: Lines = dataclasses.field(default_factory=Lines, init=False, compare=False)

    def read(self, units: Iterable[int], report: Report) -> Iterator[list[Piece]]:
        """Yield the pieces of each document that belongs to the split, and count all of them in `report`."""
        for file, row in self.corpus.read(units, self.data):
            path = self.corpus.files[file].path
            report.read += 1
            if isinstance(row, BadRow):
                self._put_aside(path, row, report)
            elif self._other_split(row):
                report.held_out += 1
            else:
                yield from self._laid_out(path, row, report)

    def _put_aside(self, path: str, row: BadRow, report: Report) -> None:
        line = row.line
        if line is None and row.offset is not None:
            line = self.lines.number(path, row.offset)
        report.quarantined += 1
        report.rows.append(Quarantined(path, line, row.offset, row.reason))

    def _other_split(self, document: Document) -> bool:
        if self.split == "all":
            return False
        return documents.split_of(document.digest, self.data.validation_fraction, self.data.test_fraction) != self.split

    def _laid_out(self, path: str, document: Document, report: Report) -> Iterator[list[Piece]]:
        """Yield the pieces of the document, if there is anything to learn from."""
        turns = self._redacted(path, document, report)
        try:
            pieces = self.layout(turns)
        except chat.Refused as refusal:
            self._put_aside(path, BadRow(document.offset, str(refusal), document.line), report)
            return
        if any(piece.learnt and piece.text.strip() for piece in pieces):
            report.trained += 1
            report.bytes += sum(len(text.encode()) for text, _ in document.parts)
            yield pieces
        else:
            report.filtered += 1

    def _redacted(self, path: str, document: Document, report: Report) -> list[Turn]:
        """Return the parts without what the safety policy finds; each is searched on its own."""
        turns, before = [], 0
        for text, role in document.parts:
            found = engine.default().examine(text, "train") if self.redact else engine.Decision([(text, True)], [], ())
            for rule, action, _, start, end in found.matches:
                if action == "flag":
                    continue
                report.redactions[rule] += 1
                place = (path, document.offset, before + start, before + end, document.digest, document.line)
                report.findings.append(Redaction(rule, *place))
            turns.append(Turn(role, [Piece(*piece) for piece in found.pieces if piece[0]]))
            before += len(text)
        return turns
