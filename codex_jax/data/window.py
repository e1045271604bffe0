"""A window: the text that is read, redacted, tokenised, packed and shuffled together.

Each window is a pure function of (seed, epoch, number), so a position in the data is just a window and a row in it.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from codex_jax import config
from codex_jax.data import documents, encoding, packing
from codex_jax.data.batch import Rows
from codex_jax.data.corpus import Corpus
from codex_jax.data.documents import BadRow, Document
from codex_jax.data.lines import Lines
from codex_jax.data.order import Order, number_of
from codex_jax.data.report import Quarantined, Redaction, Report
from codex_jax.safety import engine
from codex_jax.tokenizers.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Window:
    """Rows in the order they are learnt from, and what became of the documents behind them."""

    rows: Rows
    report: Report


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Builder:
    """Makes windows by their number, counted on through all epochs; can be sent to other processes."""

    reader: Reader
    tokenizer: Tokenizer
    order: Order

    def __call__(self, number: int) -> Window:
        """Read, redact, tokenise, pack and shuffle a window; AssetError when its files cannot be read."""
        epoch, window = divmod(number, self.order.num_windows)
        rows, report = self._pack(self.order.units(epoch, window))
        if epoch:
            report.findings = []  # their places were reported the first time; the counts go on
        # Raw bits of a counter-based generator are the same in every version of NumPy; its permutations need not be.
        bits = np.random.Philox(key=number_of("rows", self.order.seed, epoch, window))
        order = np.argsort(bits.random_raw(len(rows.tokens_BM)), kind="stable")
        return Window(packing.take(rows, order), report)

    def _pack(self, units: Sequence[int]) -> tuple[Rows, Report]:
        report = Report()
        texts, learnt, ends = [], [], []
        for pieces in self.reader.read(units, report):
            for text, keep in pieces:
                parts = list(encoding.cut(text))
                texts += parts
                learnt += [keep] * len(parts)
                ends += [False] * len(parts)
            ends[-1] = True
        data = self.reader.data
        tokens = encoding.encode(self.tokenizer, texts, data.encode_chunk_size)
        report.tokens = sum(ids.size for ids in tokens) + report.trained
        length, eos = data.sequence_length, self.tokenizer.eos_id
        return packing.pack(tokens, learnt, ends, length=length, eos=eos), report
