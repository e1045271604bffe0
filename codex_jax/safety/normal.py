"""The text as a reader sees it: without characters nobody sees, and with plain ones for their look-alikes."""

import bisect
import re
import unicodedata
from collections.abc import Sequence

import re2


# Seen by nobody, or only as a break that may be: soft hyphen, grapheme joiner, zero-width spaces and joiners, marks of
# direction, word joiner and its like, variation selectors, the byte order mark.
_UNSEEN = (0xAD, 0x34F, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070))
_UNSEEN += (*range(0xFE00, 0xFE10), 0xFEFF)
# Where Unicode keeps letters, digits and signs that only look otherwise: super- and subscripts, letter-like and
# enclosed ones, mathematical alphabets, full-width forms. Fixed ranges: a newer Python must not find something else.
_FORMS = (
    *(0xAA, 0xB2, 0xB3, 0xB9, 0xBA),
    *range(0x2070, 0x209D),
    *range(0x2100, 0x2140),
    *range(0x2460, 0x24EB),
    *range(0xFE50, 0xFE6C),
    *range(0xFF01, 0xFF5F),
    *range(0x1D400, 0x1D800),
)
_DIGITS = (0x660, 0x6F0, 0x966)
_DASHES = (*range(0x2010, 0x2016), 0x2212)
_SPACES = (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)


def _table() -> dict[int, str]:
    table = dict.fromkeys(_UNSEEN, "") | dict.fromkeys(_DASHES, "-") | dict.fromkeys(_SPACES, " ")
    table |= {zero + digit: str(digit) for zero in _DIGITS for digit in range(10)}
    for code in _FORMS:
        plain = unicodedata.normalize("NFKC", chr(code))
        if len(plain) == 1 and plain.isascii():
            table[code] = plain
    return table


_TABLE = _table()
_ANY = re2.compile(f"[{''.join(map(chr, sorted(_TABLE)))}]")
_UNSEEN_ANY = re.compile(f"[{''.join(map(chr, _UNSEEN))}]")


class Offsets:
    """Where the characters of the normal text stand in the original."""

    def __init__(self, removed: Sequence[int]) -> None:
        # A removed character that was the i-th of its kind stood before the normal text's character at its place - i.
        self._removed = [place - index for index, place in enumerate(removed)]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the original that holds the characters from `start` to before `end`."""
        last = end - 1
        return start + bisect.bisect_right(self._removed, start), last + bisect.bisect_right(self._removed, last) + 1


def normal(text: str, content: bytes) -> tuple[str, Offsets] | None:
    """Return the text with plain characters, and where they stood; None when it has nothing else.

    `content` is the text in UTF-8: RE2 looks at it at a hundred times the speed of `re` at the text.
    """
    if len(content) == len(text) or not _ANY.search(content):
        return None
    removed = [match.start() for match in _UNSEEN_ANY.finditer(text)]
    return text.translate(_TABLE), Offsets(removed)
