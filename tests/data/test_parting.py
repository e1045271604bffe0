"""Rows of a model that guesses hidden tokens: framed segments, whose targets are their own tokens."""

import numpy as np
import pytest

from codex_jax.data import packing
from codex_jax.data.batch import Batch
from codex_jax.data.packing import Pieces
from codex_jax.data.parting import Parting


pytestmark = pytest.mark.data

CLS, SEP = 101, 102


def batch(texts: list[list[int]], length: int, *, how: str = "first_fit", isolate: bool = True) -> Batch:
    pieces = Pieces([np.array(text, np.int32) for text in texts], [True] * len(texts), [True] * len(texts))
    rows = packing.pack(packing.begun(pieces, CLS), length=length - 1, eos=SEP, how=how)
    return Parting(objective="masked", isolate=isolate, begin=CLS, end=SEP)(rows)


def test_whole_documents_stand_in_their_frame_and_nothing_of_it_is_learnt() -> None:
    made = batch([[1, 2, 3], [4, 5]], 10)
    assert made.tokens_BL.tolist() == [[CLS, 1, 2, 3, SEP, CLS, 4, 5, SEP, 0]]
    assert made.targets_BL.tolist() == made.tokens_BL.tolist()
    assert made.weights_BL.tolist() == [[0, 1, 1, 1, 0, 0, 1, 1, 0, 0]]
    assert made.segments_BL.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2, 2, 0]]
    assert made.positions_BL[0, :9].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]


@pytest.mark.parametrize("how", ["concat", "first_fit"])
@pytest.mark.parametrize("isolate", [True, False])
def test_every_segment_is_framed_however_long_its_document(how: str, isolate: bool) -> None:
    made = batch([list(range(1, 40)), [41], list(range(50, 75))], 8, how=how, isolate=isolate)
    for tokens_L, weights_L, segments_L in zip(made.tokens_BL, made.weights_BL, made.segments_BL, strict=True):
        for number in range(1, segments_L.max() + 1):
            here = np.flatnonzero(segments_L == number)
            assert tokens_L[here[-1]] == SEP
            assert len(here) == 1 or tokens_L[here[0]] == CLS
            assert weights_L[here[0]] == weights_L[here[-1]] == 0
        assert not isolate or not np.isin(tokens_L[weights_L > 0], [CLS, SEP]).any()


def test_little_of_a_long_document_is_lost_to_frames() -> None:
    text = list(range(1, 97))
    made = batch([text], 16)
    learnt = made.targets_BL[made.weights_BL > 0]
    assert set(learnt.tolist()) < set(text)
    assert len(text) - len(set(learnt.tolist())) == len(made.tokens_BL) - 1  # one where each row but the last is cut


def test_padding_is_no_segment_and_is_never_learnt() -> None:
    made = batch([[1, 2]], 12)
    assert made.segments_BL[0, 4:].tolist() == [0] * 8
    assert made.weights_BL[0, 4:].sum() == 0


def test_a_row_of_a_class_has_it_as_its_only_target() -> None:
    pieces = Pieces([np.array([7], np.int32), np.array([1, 2, 3], np.int32)], [False, True], [False, True])
    for length, tokens in ((8, [CLS, 1, 2, 3, SEP, 0, 0, 0]), (4, [CLS, 1, 2, SEP]), (2, [CLS, SEP])):
        rows = packing.padded(packing.pack(packing.begun(pieces, CLS), length=length, eos=SEP, how="alone"), 2)
        made = Parting(objective="classes", isolate=True, begin=CLS, end=SEP)(rows)
        rest = [0] * (length - 1)
        assert made.tokens_BL.tolist() == [tokens, [0] * length]
        assert made.targets_BL.tolist() == [[7, *rest], [0, *rest]]
        assert made.weights_BL.tolist() == [[1, *rest], [0, *rest]]
        assert made.segments_BL.tolist() == [[int(token > 0) for token in tokens], [0] * length]


def test_pieces_that_are_not_learnt_stay_so() -> None:
    pieces = Pieces([np.array([1, 2], np.int32), np.array([3], np.int32)], [False, True], [False, True])
    rows = packing.pack(packing.begun(pieces, CLS), length=7, eos=SEP, how="first_fit")
    made = Parting(objective="masked", isolate=True, begin=CLS, end=SEP)(rows)
    assert made.weights_BL.tolist() == [[0, 0, 0, 1, 0, 0, 0, 0]]
