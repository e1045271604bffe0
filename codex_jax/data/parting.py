"""Rows to batches: what a model is shown, and what it is to say, as data.objective has it."""

import dataclasses

import numpy as np

from codex_jax import config
from codex_jax.data import packing
from codex_jax.data.batch import Batch, Rows
from codex_jax.tokenizers.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parting:
    """Parts rows into batches; can be sent to other processes."""

    masked: bool
    """the targets are the tokens themselves, of which the step will hide some; else the tokens that follow"""
    isolate: bool
    """data.isolate_documents"""
    begin: int | None
    """of masked rows, the token before each segment; None where the tokenizer has none"""
    end: int
    """the one behind it"""

    def __call__(self, rows: Rows) -> Batch:
        """Return the rows as a batch."""
        if not self.masked:
            return packing.to_batch(rows, isolate=self.isolate)
        documents_BL = rows.documents_BM if self.isolate else np.minimum(rows.documents_BM, 0)
        real_BL = documents_BL >= 0
        changes_BL = np.diff(documents_BL, axis=1) != 0
        edge_B1 = np.ones((len(documents_BL), 1), bool)
        starts_BL = np.concatenate([edge_B1, changes_BL], axis=1) & real_BL
        ends_BL = np.concatenate([changes_BL, edge_B1], axis=1) & real_BL
        tokens_BL = self._framed(rows.tokens_BM, starts_BL, ends_BL)
        places_L = np.arange(documents_BL.shape[1], dtype=np.int32)
        return Batch(
            tokens_BL,
            tokens_BL,
            (rows.learnt_BM & real_BL & ~self._frame(starts_BL, ends_BL)).astype(np.float32),
            np.where(real_BL, np.cumsum(starts_BL, axis=1), 0).astype(np.int32),
            places_L - np.maximum.accumulate(np.where(starts_BL, places_L, 0), axis=1),
        )

    def _framed(self, tokens_BL: np.ndarray, starts_BL: np.ndarray, ends_BL: np.ndarray) -> np.ndarray:
        """Return the tokens with the frame around each segment.

        Around a whole document it is there already. A part of a longer one gives its first and last token for it: what
        the model reads looks the same wherever it was cut.
        """
        begun_BL = tokens_BL if self.begin is None else np.where(starts_BL, np.int32(self.begin), tokens_BL)
        return np.where(ends_BL, np.int32(self.end), begun_BL)

    def _frame(self, starts_BL: np.ndarray, ends_BL: np.ndarray) -> np.ndarray:
        return ends_BL if self.begin is None else starts_BL | ends_BL


def parting(data: config.Data, tokenizer: Tokenizer) -> Parting:
    """Return how rows become batches."""
    end = tokenizer.eos_id
    assert end is not None, "loading.given refuses a tokenizer without an end token"
    return Parting(
        masked=data.objective == "masked", isolate=data.isolate_documents, begin=begin(data, tokenizer), end=end
    )


def begin(data: config.Data, tokenizer: Tokenizer) -> int | None:
    """Return the token that is put before each document, None where there is none."""
    return tokenizer.bos_id if data.objective == "masked" else None


def length(data: config.Data) -> int:
    """Return the tokens of a row but one, which is what is packed: a row to be continued has one token more."""
    return data.sequence_length - (data.objective == "masked")


def content(data: config.Data) -> dict[str, str]:
    """Return what decides how rows become batches, beside data.isolate_documents, nothing where the next is learnt."""
    return {"data.objective": data.objective} if data.objective == "masked" else {}
