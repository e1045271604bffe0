"""Packing: rows by hand, no token lost, and the weights that say what is learnt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_jax.data import packing
from codex_jax.data.batch import Rows


pytestmark = pytest.mark.data

EOS = 9


def pack(documents: list[list[int]], length: int) -> packing.Rows:
    arrays = [np.array(ids, np.int32) for ids in documents]
    return packing.pack(
        packing.Pieces(arrays, [True] * len(arrays), [True] * len(arrays)), length=length, eos=EOS, how="concat"
    )


def test_two_documents_fill_rows_of_five() -> None:
    batch = packing.to_batch(pack([[1, 2, 3], [4, 5]], 4), isolate=True)
    # stream: 1 2 3 9 4 | 5 9 . . .
    assert batch.tokens_BL.tolist() == [[1, 2, 3, 9], [5, 9, 0, 0]]
    assert batch.targets_BL.tolist() == [[2, 3, 9, 4], [9, 0, 0, 0]]
    assert batch.weights_BL.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert batch.segments_BL.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.positions_BL.tolist() == [[0, 1, 2, 3], [0, 1, 0, 1]]


def test_documents_restart_segments_and_positions_within_a_row() -> None:
    batch = packing.to_batch(pack([[1], [2, 3], [4]], 6), isolate=True)
    # stream: 1 9 2 3 9 4 9
    assert batch.segments_BL.tolist() == [[1, 1, 2, 2, 2, 3]]
    assert batch.positions_BL.tolist() == [[0, 1, 0, 1, 2, 0]]
    assert batch.weights_BL.tolist() == [[1, 0, 1, 1, 0, 1]]


def test_without_isolation_a_row_reads_on() -> None:
    batch = packing.to_batch(pack([[1], [2, 3], [4, 5]], 4), isolate=False)
    # stream: 1 9 2 3 9 | 4 5 9 . .
    assert batch.segments_BL.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.positions_BL.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert batch.weights_BL.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_redacted_piece_is_never_a_target() -> None:
    pieces = [np.array(ids, np.int32) for ids in ([1, 2], [3, 4], [5])]
    rows = packing.pack(
        packing.Pieces(pieces, [True, False, True], [False, False, True]), length=5, eos=EOS, how="concat"
    )
    batch = packing.to_batch(rows, isolate=True)
    assert batch.targets_BL.tolist() == [[2, 3, 4, 5, 9]]
    assert batch.weights_BL.tolist() == [[1, 0, 0, 1, 1]]


def test_padding_rows_weigh_nothing() -> None:
    rows = packing.padded(pack([[1, 2]], 4), 3)
    batch = packing.to_batch(rows, isolate=True)
    assert batch.tokens_BL.shape == (3, 4)
    assert batch.weights_BL[1:].sum() == 0 and batch.segments_BL[1:].sum() == 0


def test_opening_is_the_beginning_of_the_longest_document_and_never_its_end() -> None:
    row = packing.to_batch(pack([[1, 2], [3, 4, 5, 6, 7], [8]], 12), isolate=True)
    assert row.opening() == [3, 4, 5]  # of 3 4 5 6 7 and the end token
    assert packing.to_batch(pack([list(range(10, 40))], 40), isolate=True).opening() == list(range(10, 18))
    assert packing.to_batch(pack([[1]], 4), isolate=True).opening() == [1]


def test_types_are_those_of_the_contract() -> None:
    batch = packing.to_batch(pack([[1, 2, 3]], 4), isolate=True)
    assert [array.dtype.name for array in batch] == ["int32", "int32", "float32", "int32", "int32"]
    assert all(array.flags.c_contiguous for array in batch)


documents = st.lists(st.lists(st.integers(1, 8), max_size=12), max_size=10)


@given(documents, st.integers(2, 9))
def test_every_token_is_in_exactly_one_row(texts: list[list[int]], length: int) -> None:
    rows = pack(texts, length)
    stream = [token for ids in texts for token in [*ids, EOS]]
    flat = rows.tokens_BM.reshape(-1)
    assert flat[rows.documents_BM.reshape(-1) >= 0].tolist() == stream
    assert flat.size - len(stream) < length + 1


@given(documents, st.integers(2, 9))
def test_weights_count_the_targets_that_follow_in_their_document(texts: list[list[int]], length: int) -> None:
    batch = packing.to_batch(pack(texts, length), isolate=True)
    stream = [number for number, ids in enumerate(texts) for _ in [*ids, EOS]]
    followed = sum(
        stream[at] == stream[at - 1] for at in range(1, len(stream)) if at % (length + 1)
    )  # the first token of a row is no target
    assert batch.weights_BL.sum() == followed


def test_documents_of_a_row_need_not_follow_each_other_in_the_stream() -> None:
    documents = np.array([[7, 7, 3, 3, 9, -1, -1]])
    rows = Rows(np.arange(7, dtype=np.int32)[None], documents, np.ones((1, 7), bool))
    batch = packing.to_batch(rows, isolate=True)
    assert batch.segments_BL.tolist() == [[1, 1, 2, 2, 3, 0]]
    assert batch.positions_BL.tolist() == [[0, 1, 0, 1, 0, 0]]
    assert batch.weights_BL.tolist() == [[1, 0, 1, 0, 0, 0]]


def fit(documents: list[list[int]], length: int) -> packing.Rows:
    arrays = [np.array(ids, np.int32) for ids in documents]
    pieces = packing.Pieces(arrays, [True] * len(arrays), [True] * len(arrays))
    return packing.pack(pieces, length=length, eos=EOS, how="first_fit")


def test_documents_go_where_they_fit_and_long_ones_are_cut() -> None:
    rows = fit([[1, 2], [3, 4, 5, 6, 7, 8], [1], [2, 3]], 4)
    # 1 2 9 | 3 4 5 6 7 and 7 8 9, which begins with the last target before | 1 9 | 2 3 9
    assert rows.tokens_BM.tolist() == [[1, 2, 9, 1, 9], [3, 4, 5, 6, 7], [7, 8, 9, 0, 0], [2, 3, 9, 0, 0]]
    batch = packing.to_batch(rows, isolate=True)
    assert batch.segments_BL.tolist() == [[1, 1, 1, 2], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]]
    assert batch.weights_BL.tolist() == [[1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


@given(documents, st.integers(2, 9))
def test_fitted_rows_learn_every_token_but_the_first_of_a_document_once(texts: list[list[int]], length: int) -> None:
    batch = packing.to_batch(fit(texts, length), isolate=True)
    expected = sorted(token for ids in texts for token in [*ids, EOS][1:])
    assert sorted(batch.targets_BL[batch.weights_BL > 0].tolist()) == expected


@given(documents, st.integers(2, 9))
def test_document_that_a_row_can_hold_is_never_cut(texts: list[list[int]], length: int) -> None:
    rows = fit(texts, length)
    for ids in texts:
        if len(ids) <= length:
            text = str([*ids, EOS])[1:-1]
            assert any(text in str(row)[1:-1] for row in rows.tokens_BM.tolist())


def test_many_documents_leave_few_places_empty() -> None:
    sizes = np.random.default_rng(0).integers(20, 400, 3000)
    rows = fit([[1] * size for size in sizes], 1024)
    assert (rows.documents_BM >= 0).mean() > 0.97
