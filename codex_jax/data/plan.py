"""What a store is to hold: its content by name, and which units of which files make up each shard.

A store is a directory. Its shards are ranges of units in the order of the files; shuffling is a matter of reading.

    manifest.json               written last: without it the store is not finished
    plan.json                   what the store is made of, written first
    shards/00000/tokens.bin     ids, uint16 or uint32
                 learnt.bin     a bit for each id, the lowest of a byte first: 1 where it may be a target
                 ends.bin       int64, the place behind each document
                 places.bin     int64 pairs: the file of each document, and the byte it begins at
                 quarantined.ndjson, safety.ndjson
                 facts.json     counts, and size and SHA-256 of the files above
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from codex_jax.data.corpus import Corpus
from codex_jax.data.encoding import Encoder


# Raised by hand whenever the same files and settings give other bytes: a test holds the bytes of a small store and
# fails when they change. A digest of the modules would throw away weeks of work for a comment.
FORMAT = 2
# A worker is lost for a quarter of a minute at most, and 10 TB are some 160,000 shards.
SHARD_BYTES = 64_000_000
# As much is read, redacted and tokenised at a time.
_CALL_BYTES = 2_097_152
SPLITS = ("train", "validation")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Makes any shard on any machine; can be sent to other processes."""

    encoders: Mapping[str, Encoder]
    """of each split; validation reads the files of training again, or files of its own"""
    content: Mapping[str, Any]
    """everything that decides the bytes of the shards, as plain JSON"""
    num_shards: Mapping[str, int]

    @property
    def total(self) -> int:
        """Shards of all splits."""
        return sum(self.num_shards.values())

    @property
    def corpora(self) -> list[Corpus]:
        """The corpora that are read, each once."""
        train, validation = (self.encoders[split].reader.corpus for split in SPLITS)
        return [train] if validation is train else [train, validation]

    def split(self, number: int) -> str:
        """Return the split of a shard; those of training come first."""
        return SPLITS[number >= self.num_shards["train"]]

    def units(self, number: int) -> range:
        """Return the units of a shard."""
        split = self.split(number)
        place = number if split == "train" else number - self.num_shards["train"]
        num_units, count = self.encoders[split].reader.corpus.num_units, self.num_shards[split]
        return range(num_units * place // count, num_units * (place + 1) // count)

    def calls(self, number: int) -> Iterator[range]:
        """Yield the units of a shard in parts of about 2 MB of text."""
        corpus, units = self.encoders[self.split(number)].reader.corpus, self.units(number)
        step = max(1, _CALL_BYTES * corpus.num_units // corpus.num_bytes)
        for at in range(units.start, units.stop, step):
            yield range(at, min(at + step, units.stop))


def make_plan(train: Encoder, validation: Encoder, content: Mapping[str, Any]) -> Plan:
    """Return the plan of a store; `content` is what the pipeline knows to decide which documents say what."""
    encoders = dict(zip(SPLITS, (train, validation), strict=True))
    num_shards = {split: count_shards(encoder.reader.corpus) for split, encoder in encoders.items()}
    tokenizer = train.tokenizer
    return Plan(
        encoders=encoders,
        num_shards=num_shards,
        content={
            "format": FORMAT,
            **content,
            "tokenizer": tokenizer.digest,
            "token type": "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32",
            "units": {split: encoder.reader.corpus.num_units for split, encoder in encoders.items()},
            "shards": num_shards,
        },
    )


def count_shards(corpus: Corpus) -> int:
    """Return the number of shards of a corpus, of about SHARD_BYTES of its files each."""
    return min(-(-corpus.num_bytes // SHARD_BYTES), corpus.num_units)
