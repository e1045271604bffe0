"""Text to ids in calls of bounded size: a tokenizer needs some 130 bytes for each byte that it is given at once."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from codex_jax.data import packing, parting
from codex_jax.data.documents import Piece
from codex_jax.data.packing import Pieces
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.tokenizers.tokenizer import Tokenizer


# A longer text is cut. No document of the default data.document_bytes is.
_PIECE_CHARS = 65_536
# Characters of one call, if it is of more than one text.
_CALL_CHARS = 1_048_576
# The last place before a run of white space. What GPT-2 splits text into ends there anyhow: the ids stay the same.
_LAST_BREAK = re.compile(r".*\S(?=[ \t\n\r])", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder:
    """Turns units of a corpus into ids; can be sent to other processes."""

    reader: Reader
    tokenizer: Tokenizer

    @property
    def eos(self) -> int:
        """The token behind each document."""
        eos = self.tokenizer.eos_id
        assert eos is not None, "loading.given refuses a tokenizer without an end token"
        return eos

    @property
    def begin(self) -> int | None:
        """The token before each document, if there is to be one."""
        return parting.begin(self.reader.data, self.tokenizer)

    def __call__(self, units: Iterable[int]) -> tuple[Pieces, Report]:
        """Return the pieces of the documents of these units, in order, and what became of all that was read."""
        report = Report()
        parts: list[Piece] = []
        ends: list[bool] = []
        for pieces in self.reader.read(units, report):
            parts += [piece._replace(text=text) for piece in pieces for text in cut(piece.text)]
            ends += [False] * (len(parts) - len(ends))
            ends[-1] = True
        ids = encode(self.tokenizer, parts, self.reader.data.encode_chunk_size)
        made = packing.begun(Pieces(ids, [part.learnt for part in parts], ends), self.begin)
        report.tokens = sum(part.size for part in made.ids) + report.trained
        return made, report


def cut(text: str) -> Iterator[str]:
    """Yield the text in parts of at most 65,536 characters, cut before white space where there is some."""
    start = 0
    while len(text) - start > _PIECE_CHARS:
        found = _LAST_BREAK.match(text, start, start + _PIECE_CHARS)
        end = found.end() if found else start + _PIECE_CHARS
        yield text[start:end]
        start = end
    yield text[start:]


def encode(tokenizer: Tokenizer, pieces: Sequence[Piece], chunk_size: int) -> list[np.ndarray]:
    """Return the ids of each piece, from calls of at most `chunk_size` of them and of bounded length."""
    ids = [np.array([] if piece.label is None else [piece.label], np.int32) for piece in pieces]
    for special in (False, True):
        places = [place for place, piece in enumerate(pieces) if piece.special == special and piece.label is None]
        found = _encode([pieces[place].text for place in places], chunk_size, tokenizer, special)
        for place, part in zip(places, found, strict=True):
            ids[place] = part
    return ids


def _encode(texts: Sequence[str], chunk_size: int, tokenizer: Tokenizer, special: bool) -> list[np.ndarray]:
    ids: list[np.ndarray] = []
    start = chars = 0
    for end, text in enumerate(texts):
        if end - start == chunk_size or (end > start and chars + len(text) > _CALL_CHARS):
            ids += tokenizer.encode(texts[start:end], special=special)
            start, chars = end, 0
        chars += len(text)
    return ids + tokenizer.encode(texts[start:], special=special) if start < len(texts) else ids
