"""A window: the text that is read, redacted, tokenised, packed and shuffled together.

Each window is a pure function of (seed, number), so a position in the data is just a window and a row in it.
"""

import dataclasses

import numpy as np

from codex_jax import config
from codex_jax.data import packing, parting
from codex_jax.data.batch import Rows
from codex_jax.data.encoding import Encoder
from codex_jax.data.order import Order, number_of
from codex_jax.data.parting import Parting
from codex_jax.data.report import Report


@dataclasses.dataclass(frozen=True)
class Window:
    """Rows in the order they are learnt from, and what became of the documents behind them."""

    rows: Rows
    report: Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Builder:
    """Makes windows by their number, counted on through all epochs; can be sent to other processes."""

    encoders: tuple[Encoder, ...]
    """of each corpus of the mixture"""
    order: Order
    data: config.Data

    @property
    def part(self) -> Parting:
        """How the rows become batches."""
        return parting.parting(self.data, self.encoders[0].tokenizer)

    def names(self, number: int) -> list[str]:
        """Return the paths of the files that a window is read from."""
        parts = zip(self.encoders, self.order.units(number), strict=True)
        found = ((encoder.reader.corpus, units) for encoder, units in parts)
        return list(dict.fromkeys(path for corpus, units in found for path in corpus.paths(units)))

    def __call__(self, number: int) -> Window:
        """Read, redact, tokenise, pack and shuffle a window; AssetError when its files cannot be read."""
        parts, report = [], Report()
        for encoder, units in zip(self.encoders, self.order.units(number), strict=True):
            pieces, of_corpus = encoder(units)
            parts.append(pieces)
            report.add(of_corpus)
        if number >= self.order.num_windows:
            report.findings, report.rows = [], []  # their places were reported the first time; the counts go on
        eos = self.encoders[0].eos
        pieces, length = packing.joined(parts), parting.length(self.data)
        rows = packing.pack(pieces, length=length, eos=eos, how=parting.how(self.data))
        # Raw bits of a counter-based generator are the same in every version of NumPy; its permutations need not be.
        bits = np.random.Philox(key=number_of("rows", self.order.seed, number))
        order = np.argsort(bits.random_raw(len(rows.tokens_BM)), kind="stable")
        return Window(packing.take(rows, order), report)
