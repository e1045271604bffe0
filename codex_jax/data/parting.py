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

    objective: str
    """data.objective. causal: the targets are the tokens that follow; masked: the tokens themselves, of which the step
    will hide some; classes: the first target is the class of the row, and there is no other"""
    isolate: bool
    """data.isolate_documents"""
    begin: int | None
    """of an encoder's rows, the token before each segment; None where the tokenizer has none"""
    end: int
    """the one behind it"""

    def __call__(self, rows: Rows) -> Batch:
        """Return the rows as a batch."""
        if self.objective == "causal":
            return packing.to_batch(rows, isolate=self.isolate)
        return self._classed(rows) if self.objective == "classes" else self._masked(rows)

    def _masked(self, rows: Rows) -> Batch:
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

    def _classed(self, rows: Rows) -> Batch:
        """Return rows of one document each, whose class was put behind the token that begins it."""
        place = int(self.begin is not None)
        tokens_BL, documents_BL = (np.delete(array, place, axis=1) for array in (rows.tokens_BM, rows.documents_BM))
        real_BL = documents_BL >= 0
        ends_BL = real_BL & ~np.pad(real_BL[:, 1:], ((0, 0), (0, 1)))
        targets_BL, weights_BL = np.zeros_like(tokens_BL), np.zeros(tokens_BL.shape, np.float32)
        targets_BL[:, 0], weights_BL[:, 0] = rows.tokens_BM[:, place], real_BL[:, 0]
        return Batch(
            np.where(ends_BL, np.int32(self.end), tokens_BL),
            targets_BL,
            weights_BL,
            real_BL.astype(np.int32),
            np.tile(np.arange(tokens_BL.shape[1], dtype=np.int32), (len(tokens_BL), 1)),
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
    return Parting(objective=data.objective, isolate=data.isolate_documents, begin=begin(data, tokenizer), end=end)


def begin(data: config.Data, tokenizer: Tokenizer) -> int | None:
    """Return the token that is put before each document, None where there is none."""
    return None if data.objective == "causal" else tokenizer.bos_id


def length(data: config.Data) -> int:
    """Return the tokens of a row but one, which is what is packed.

    Beside those that are shown a row has the token that follows the last, or its class.
    """
    return data.sequence_length - (data.objective == "masked")


def how(data: config.Data) -> str:
    """Return how documents are put into rows: as data.packing says, or each alone where a row has one class."""
    return "alone" if data.objective == "classes" else data.packing


def content(data: config.Data) -> dict[str, str]:
    """Return what decides how rows become batches, beside data.isolate_documents, nothing where the next is learnt."""
    return {} if data.objective == "causal" else {"data.objective": data.objective}
