"""Copies of documents that are validated on in files of their own: known by their digests, whatever file holds them.

A share of the documents is chosen by their content, so copies are always on one side. Files named apart can hold what
is trained on as well. Of each of their documents 8 bytes are held, the only memory here that grows with data.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codex_jax import config
from codex_jax.data.corpus import Corpus
from codex_jax.data.documents import Document


class Copies(NamedTuple):
    """Which documents are validated on, and what becomes of their copies elsewhere."""

    digests_D: np.ndarray
    """uint64, the first 8 bytes of SHA-256, sorted. Among a billion documents one is mistaken for one of a million of
    these with a probability of 1 in 18,000."""
    policy: str
    """data.duplicates"""

    def __contains__(self, document: object) -> bool:
        if not self.digests_D.size or not isinstance(document, Document):
            return False
        wanted = _number(document)
        place = int(self.digests_D.searchsorted(wanted))
        return place < self.digests_D.size and bool(self.digests_D[place] == wanted)

    def content(self) -> dict[str, str]:
        """Return what decides which documents are trained on; nothing where no file of its own is validated on."""
        if not self.digests_D.size or self.policy == "keep":
            return {}
        return {"copies of validation documents": hashlib.sha256(self.digests_D.tobytes()).hexdigest()}


NONE = Copies(np.zeros(0, np.uint64), "keep")


def find(corpora: Sequence[tuple[Corpus, config.Data]], policy: str) -> Copies:
    """Read every document of some corpora, each with its settings; `policy` is data.duplicates."""
    found = [
        _number(row)
        for corpus, data in corpora
        for _, row in corpus.read(range(corpus.num_units), data)
        if isinstance(row, Document)
    ]
    return Copies(np.unique(np.array(found, np.uint64)), policy)


def _number(document: Document) -> np.uint64:
    return np.uint64(int(document.digest[:16], 16))
