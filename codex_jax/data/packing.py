"""Documents to rows of one length: one after the other and cut where a row ends, each where it fits, or each alone."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from codex_jax.data.batch import Batch, Rows


class Pieces(NamedTuple):
    """Documents as ids, each in one piece or several."""

    ids: Sequence[np.ndarray]
    """int32, of each piece"""
    learnt: Sequence[bool]
    """whether the piece may be a target"""
    ends: Sequence[bool]
    """whether the piece is the last of its document"""


def joined(parts: Sequence[Pieces]) -> Pieces:
    """Return the documents of all parts, one after the other."""
    ids, learnt, ends = (list(itertools.chain(*field)) for field in zip(*parts, strict=True))
    return Pieces(ids, learnt, ends)


def begun(pieces: Pieces, begin: int | None) -> Pieces:
    """Return the documents with a token before each, which is never learnt; as they are without one."""
    if begin is None:
        return pieces
    mark, is_first = (np.array([begin], np.int32), False, False), True
    made: list[tuple[np.ndarray, bool, bool]] = []
    for part in zip(*pieces, strict=True):
        made += [mark, part] if is_first else [part]
        is_first = part[2]
    return Pieces(*(list(field) for field in zip(*made, strict=True))) if made else pieces


class Flat(NamedTuple):
    """Documents one after the other, each with its end token."""

    tokens_T: np.ndarray
    """int32"""
    learnt_T: np.ndarray
    """bool, False for what may not be a target"""
    ends_D: np.ndarray
    """int64, the place behind each document"""


def flatten(pieces: Pieces, *, eos: int) -> Flat:
    """Return all pieces in their order; `eos` is put after each document, and is learnt."""
    mark = np.array([eos], np.int32)
    parts, keeps, ends = [np.zeros(0, np.int32)], [np.zeros(0, bool)], []
    place = 0
    for ids, keep, last in zip(pieces.ids, pieces.learnt, pieces.ends, strict=True):
        parts.append(ids)
        keeps.append(np.full(ids.size, keep))
        place += ids.size
        if last:
            parts.append(mark)
            keeps.append(np.ones(1, bool))
            place += 1
            ends.append(place)
    return Flat(np.concatenate(parts), np.concatenate(keeps), np.array(ends, np.int64))


def pack(pieces: Pieces, *, length: int, eos: int, how: str) -> Rows:
    """Return the rows of `length` + 1 tokens that hold all pieces, an end token after each document.

    `how` is what `parting.how` says: concat puts documents one after the other and cuts where a row ends; first_fit
    cuts only documents longer than a row, and puts each where there is room; alone gives each a row, and leaves out
    what is longer.
    """
    flat = flatten(pieces, eos=eos)
    return concatenated(flat, length) if how == "concat" else fitted(flat, FITS[how](flat.ends_D, length), length)


def concatenated(flat: Flat, length: int) -> Rows:
    """Return rows that are cut from the documents one after the other."""
    width = length + 1
    shape = (-(-flat.tokens_T.size // width), width)
    documents_T = np.repeat(np.arange(flat.ends_D.size), np.diff(flat.ends_D, prepend=0))
    return Rows(
        _filled([flat.tokens_T], shape, np.int32, 0),
        _filled([documents_T], shape, np.int32, -1),
        _filled([flat.learnt_T], shape, np.bool_, False),
    )


def fitted(flat: Flat, fit: "Fit", length: int) -> Rows:
    """Return the rows of a fit."""
    width = length + 1
    rows = [np.full((fit.num_rows, width), fill, kind) for kind, fill in _PADDING]
    before_P = np.cumsum(fit.sizes_P) - fit.sizes_P
    steps_T = np.arange(fit.sizes_P.sum()) - np.repeat(before_P, fit.sizes_P)
    from_T = np.repeat(fit.starts_P, fit.sizes_P) + steps_T
    to_T = np.repeat(fit.rows_P * width + fit.places_P, fit.sizes_P) + steps_T
    numbers_T = np.repeat(np.arange(fit.sizes_P.size), fit.sizes_P)
    for array, values in zip(rows, (flat.tokens_T[from_T], numbers_T, flat.learnt_T[from_T]), strict=True):
        array.reshape(-1)[to_T] = values
    return Rows(*rows)


class Fit(NamedTuple):
    """Where each part of a document goes, in the order of the documents."""

    starts_P: np.ndarray
    """where it begins in all tokens"""
    sizes_P: np.ndarray
    rows_P: np.ndarray
    places_P: np.ndarray
    """where it begins in its row"""
    num_rows: int


def first_fit(ends_D: np.ndarray, length: int) -> Fit:
    """Return the parts of documents that end at these places, each in the first row of the newest with room for it.

    A part of a longer document begins with the last token of the part before: every token but a document's first is a
    target once.
    """
    sizes_D = np.diff(ends_D, prepend=0)
    counts_D = np.maximum(-(-(sizes_D - 1) // length), 1)
    steps_P = np.arange(counts_D.sum()) - np.repeat(np.cumsum(counts_D) - counts_D, counts_D)
    starts_P = np.repeat(ends_D - sizes_D, counts_D) + steps_P * length
    sizes_P = np.minimum(np.repeat(ends_D, counts_D) - starts_P, length + 1)
    rows_P, places_P = np.zeros_like(starts_P), np.zeros_like(starts_P)
    room = np.full(sizes_P.size + 1, length + 1)
    count = 0
    for part, size in enumerate(sizes_P.tolist()):
        # Row `count` is empty: something always fits.
        low = max(count - _OPEN_ROWS, 0)
        row = low + int((room[low : count + 1] >= size).argmax())
        rows_P[part], places_P[part] = row, length + 1 - room[row]
        room[row] -= size
        count = max(count, row + 1)
    return Fit(starts_P, sizes_P, rows_P, places_P, count)


def alone(ends_D: np.ndarray, length: int) -> Fit:
    """Return the beginnings of documents that end at these places, each in a row of its own."""
    sizes_D = np.diff(ends_D, prepend=0)
    rows_D = np.arange(ends_D.size)
    return Fit(ends_D - sizes_D, np.minimum(sizes_D, length + 1), rows_D, np.zeros_like(rows_D), ends_D.size)


FITS: Mapping[str, Callable[[np.ndarray, int], Fit]] = {"first_fit": first_fit, "alone": alone}
# As many rows may wait for what fits: 64 fill them to 98 % and more.
_OPEN_ROWS = 64


def to_batch(rows: Rows, *, isolate: bool) -> Batch:
    """Part rows into tokens and targets, with weights, segments and positions.

    With `isolate` every document is a segment of its own and the first token of one is no target; without it a row is
    one segment and reads on across documents.
    """
    tokens_BM, documents_BM, learnt_BM = rows
    real_BL = documents_BM[:, :-1] >= 0
    places_L = np.arange(tokens_BM.shape[1] - 1, dtype=np.int32)
    weights_BL = learnt_BM[:, 1:] & (documents_BM[:, 1:] >= 0)
    if isolate:
        weights_BL &= documents_BM[:, 1:] == documents_BM[:, :-1]
        starts_BL = np.diff(documents_BM[:, :-1], axis=1, prepend=-2) != 0
        segments_BL = np.where(real_BL, np.cumsum(starts_BL, axis=1), 0)
        positions_BL = places_L - np.maximum.accumulate(np.where(starts_BL, places_L, 0), axis=1)
    else:
        segments_BL = real_BL
        positions_BL = np.broadcast_to(places_L, real_BL.shape)
    return Batch(
        np.ascontiguousarray(tokens_BM[:, :-1]),
        np.ascontiguousarray(tokens_BM[:, 1:]),
        weights_BL.astype(np.float32),
        segments_BL.astype(np.int32),
        np.ascontiguousarray(positions_BL, dtype=np.int32),
    )


def join(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, one after the other."""
    return Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def take(rows: Rows, which: slice | np.ndarray) -> Rows:
    """Return some of the rows."""
    return Rows(*(array[which] for array in rows))


def own_rows(batch_size: int, shard: tuple[int, int]) -> slice:
    """Return the rows of a batch that one of several hosts is to have; `shard` is (index, count)."""
    index, count = shard
    return slice(batch_size * index // count, batch_size * (index + 1) // count)


def padded(rows: Rows, count: int) -> Rows:
    """Return the rows with rows of padding after them, up to `count`."""
    missing = count - len(rows.tokens_BM)
    width = rows.tokens_BM.shape[1]
    return join([rows, Rows(*(_filled([], (missing, width), kind, fill) for kind, fill in _PADDING))])


_PADDING = ((np.int32, 0), (np.int32, -1), (np.bool_, False))


def _filled(parts: Sequence[np.ndarray], shape: tuple[int, int], kind: type, fill: int | bool) -> np.ndarray:
    array: np.ndarray = np.full(shape, fill, kind)
    if parts:
        joined = np.concatenate(parts)
        array.reshape(-1)[: joined.size] = joined
    return array
