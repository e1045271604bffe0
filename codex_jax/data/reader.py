"""Documents of one split of a corpus, redacted and laid out, with every other document accounted for."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from codex_jax import config
from codex_jax.data import chat, copies, documents, labels
from codex_jax.data.copies import Copies
from codex_jax.data.corpus import Corpus
from codex_jax.data.documents import BadRow, Document, Piece, Turn
from codex_jax.data.layout import Layout
from codex_jax.data.lines import Lines
from codex_jax.data.report import Blocked, Found, Quarantined, Report
from codex_jax.errors import AssetError
from codex_jax.safety.gate import Finding, Gate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
    """Documents of one split, redacted; can be sent to other processes."""

    corpus: Corpus
    data: config.Data
    gate: Gate
    split: str
    """train, validation or test; all: every document, whatever the fractions say"""
    layout: Layout
    stage: str = "train"
    """of the safety policy: train or eval"""
    stop_if_blocked: bool = False
    """safety.on_block"""
    copies: Copies = copies.NONE
    lines: Lines = dataclasses.field(default_factory=Lines, init=False, compare=False)

    def read(self, units: Iterable[int], report: Report) -> Iterator[list[Piece]]:
        """Yield the pieces of each document that belongs to the split, and count all of them in `report`."""
        for path, document, turns in self.examined(units, report):
            yield from self._laid_out(path, document, turns, report)

    def examined(self, units: Iterable[int], report: Report) -> Iterator[tuple[str, Document, list[Turn]]]:
        """Yield each document of the split with its path and its parts as the safety policy leaves them.

        What is read and not yielded is counted in `report`.
        """
        for file, row in self.corpus.read(units, self.data):
            path = self.corpus.files[file].path
            report.read += 1
            if isinstance(row, BadRow):
                self.put_aside(path, row, report)
            elif self._other_split(row) or self._copied(path, row, report):
                report.held_out += 1
            else:
                turns, blocked = self._examined(path, row, report)
                if blocked:
                    self._refuse(path, row, blocked, report)
                else:
                    yield path, row, turns

    def put_aside(self, path: str, row: BadRow, report: Report) -> None:
        """Count a row that cannot be used."""
        report.quarantined += 1
        report.rows.append(self.place(path, row, row.reason))

    def place(self, path: str, row: Document | BadRow, reason: str) -> Quarantined:
        """Return where a row is, with its line where that can be told, and what is to be said of it."""
        line = row.line
        if line is None and row.offset is not None:
            line = self.lines.number(path, row.offset)
        return Quarantined(path, line, row.offset, reason)

    def _other_split(self, document: Document) -> bool:
        if self.split == "all":
            return False
        return documents.split_of(document.digest, self.data.validation_fraction, self.data.test_fraction) != self.split

    def _copied(self, path: str, document: Document, report: Report) -> bool:
        """Return whether the document is left to validation, which has a copy of it."""
        if document not in self.copies:
            return False
        report.duplicates += 1
        if self.copies.policy == "fail":
            raise AssetError(
                f"{self.place(path, document, 'is also a document of validation_paths')}; take it out of one of them, "
                "or set data.duplicates=drop, which leaves it to validation"
            )
        return self.copies.policy == "drop"

    def _laid_out(self, path: str, document: Document, turns: Sequence[Turn], report: Report) -> Iterator[list[Piece]]:
        """Yield the pieces of the document, if there is anything to learn from."""
        try:
            pieces = self.layout(turns)
        except chat.Refused as refusal:
            self.put_aside(path, BadRow(document.offset, str(refusal), document.line), report)
            return
        if any(piece.learnt and piece.text.strip() for piece in pieces):
            report.trained += 1
            report.bytes += sum(len(text.encode()) for text, _ in document.parts)
            yield [*labels.pieces(document), *pieces]
        else:
            report.filtered += 1

    def _refuse(self, path: str, document: Document, blocked: Sequence[str], report: Report) -> None:
        report.blocked += 1
        if self.stop_if_blocked:
            place = self.place(path, document, f"blocked by {', '.join(blocked)}")
            message = f"{place}; take the document out, change the policy, or set safety.on_block=quarantine"
            # The report of the window is lost with it.
            found = [one for one in report.findings if one.document == document.digest]
            counts = Counter(f"{one.action}/{one.rule}" for one in found)
            raise Blocked(message, Report(read=1, blocked=1, safety=counts, findings=found))

    def _examined(self, path: str, document: Document, report: Report) -> tuple[list[Turn], list[str]]:
        """Return the parts as they may be seen, each examined on its own, and the rules that block the document."""
        turns, blocked, before = [], set[str](), 0
        for text, role in document.parts:
            verdict = self.gate.examine(text, self.stage)
            for finding in verdict.findings:
                self._note(path, document, finding, before, report)
            turns.append(Turn(role, [Piece(*piece) for piece in verdict.pieces if piece[0]]))
            blocked.update(verdict.blocked)
            before += len(text)
        return turns, sorted(blocked)

    def _note(self, path: str, document: Document, found: Finding, before: int, report: Report) -> None:
        report.safety[f"{found.action}/{found.rule}"] += 1
        span = (before + found.start, before + found.end)
        place = (path, document.offset, *span, document.digest, document.line)
        report.findings.append(Found(found.rule, found.action, self.stage, *place, found.hash))
