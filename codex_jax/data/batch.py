"""What a step learns from: rows of packed documents, as NumPy arrays.

document 1: a b c .      row of 6 + 1 tokens:  a b c . d e f
document 2: d e f g .    tokens     a b c . d e        targets    b c . d e f
                         segments   1 1 1 1 2 2        positions  0 1 2 3 0 1
                         weights    1 1 1 0 1 1        (d does not follow from a document that is over)
"""

from typing import NamedTuple

import numpy as np


OPENING_TOKENS = 8


class Batch(NamedTuple):
    """B rows of L tokens. Weight 0 is never learnt; segment 0 is padding."""

    tokens_BL: np.ndarray
    """int32"""
    targets_BL: np.ndarray
    """int32, the token that follows"""
    weights_BL: np.ndarray
    """float32, 0 or 1"""
    segments_BL: np.ndarray
    """int32, the number of the document within the row from 1; attention stays inside a segment"""
    positions_BL: np.ndarray
    """int32, the place within the segment from 0"""

    def opening(self) -> list[int]:
        """Return how the longest document of the first row begins there, never to its end: a prompt of a few tokens."""
        segments_L = self.segments_BL[0]
        sizes = np.bincount(segments_L)[1:]
        begins = self.tokens_BL[0][segments_L == 1 + np.argmax(sizes)]
        return [int(token) for token in begins[: min(OPENING_TOKENS, (len(begins) + 1) // 2)]]


class Rows(NamedTuple):
    """B rows of M = L + 1 tokens, before they are parted into tokens and targets."""

    tokens_BM: np.ndarray
    """int32, 0 where the row is padded"""
    documents_BM: np.ndarray
    """int32, which document a token is of, rising by one along the stream; -1 where the row is padded"""
    learnt_BM: np.ndarray
    """bool, False for redacted text and padding"""
