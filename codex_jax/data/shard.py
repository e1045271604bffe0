"""One shard of a store: made by one process alone, a pure function of plan and number, whole or not there."""

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from codex_jax import atomic, config, digest
from codex_jax.data import advance, hashed, packing
from codex_jax.data.corpus import Corpus, Entry
from codex_jax.data.encoding import Encoder
from codex_jax.data.hashed import Hashed
from codex_jax.data.plan import Plan
from codex_jax.data.reader import Reader
from codex_jax.data.report import Quarantined, Report


FILES = ("tokens.bin", "learnt.bin", "ends.bin", "places.bin", "quarantined.ndjson", "safety.ndjson")
COUNTS = ("read", "trained", "held_out", "filtered", "quarantined", "blocked", "duplicates", "bytes", "tokens")


class Facts(NamedTuple):
    """What a shard holds. Only plain values, so that it is itself in JSON."""

    split: str
    tokens: int
    documents: int
    counts: dict[str, Any]
    """whole numbers by the names of COUNTS"""
    safety: dict[str, int]
    """findings by action and rule"""
    files: dict[str, list[Any]]
    """bytes and SHA-256 by name"""

    def report(self) -> Report:
        """Return the counts as a report; the places of what it counts stay in the files."""
        return dataclasses.replace(Report(safety=Counter(self.safety)), **self.counts)


def directory_of(store: Path, number: int) -> Path:
    """Return where a shard lies."""
    return store / "shards" / f"{number:05d}"


def build_shard(plan: Plan, number: int, store: Path) -> Facts:
    """Write a shard and return its facts; one that is there and whole is left as it is.

    Any number of processes may do so at once, even for the same shard. Raises AssetError for a source that has
    changed, TrainingStopped when the disk refuses.
    """
    final = directory_of(store, number)
    if (found := read_facts(final)) and not problems(final, found):
        return found
    try:
        shutil.rmtree(final, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{final.name}.", suffix=".partial", dir=final.parent))
        facts = _write(plan, number, draft)
        for path in draft.iterdir():
            atomic.sync(path)
        _publish(draft, final)
    except OSError as error:
        raise atomic.refused(final, error) from error
    return facts


def read_facts(directory: Path) -> Facts | None:
    """Return the facts of a shard; None when there is no such shard, or they cannot be read."""
    try:
        facts = Facts(**json.loads((directory / "facts.json").read_bytes()))
        return facts if sorted(facts.files) == sorted(FILES) else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def problems(directory: Path, facts: Facts) -> list[str]:
    """Return what is wrong with the bytes of a shard: every one of them is read."""
    found = sizes(directory, facts)
    if found:
        return found
    return [
        f"{directory / name}: SHA-256 differs"
        for name, (_, sha256) in facts.files.items()
        if digest.of_file(directory / name) != sha256
    ]


def sizes(directory: Path, facts: Facts) -> list[str]:
    """Return what is wrong with the sizes of a shard's files."""
    found = []
    for name in FILES:
        path, expected = directory / name, facts.files[name][0]
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            found.append(f"{path}: missing")
        elif size != expected:
            found.append(f"{path}: {'truncated' if size < expected else 'grown'}, {size} bytes instead of {expected}")
    return found


def quarantined(directory: Path) -> list[Quarantined]:
    """Return the rows of a shard that could not be read."""
    with open(directory / "quarantined.ndjson", "rb") as file:
        return [Quarantined(**json.loads(line)) for line in file]


def _publish(draft: Path, final: Path) -> None:
    try:
        os.rename(draft, final)
    except OSError:
        # Another process was faster with the same shard, as Beam's workers may be; its bytes are ours.
        if not final.is_dir():
            raise
        shutil.rmtree(draft)
    atomic.sync(final.parent)


def _write(plan: Plan, number: int, draft: Path) -> Facts:
    encoder, total = plan.encoders[plan.split(number)], Report()
    reader = _Noting(encoder.reader)
    encode = Encoder(reader=cast(Reader, reader), tokenizer=encoder.tokenizer)
    place, keeps, ends = 0, [np.zeros(0, bool)], [np.zeros(0, np.int64)]
    with contextlib.ExitStack() as stack:
        files = {name: Hashed(stack.enter_context(open(draft / name, "wb"))) for name in FILES}
        for units in plan.calls(number):
            pieces, report = encode(units)
            advance.note()
            flat = packing.flatten(pieces, eos=encoder.eos)
            files["tokens.bin"].write(flat.tokens_T.astype("<" + np.dtype(plan.content["token type"]).str[1:]))
            keeps.append(flat.learnt_T)
            ends.append(flat.ends_D + place)
            place += flat.tokens_T.size
            files["quarantined.ndjson"].write(hashed.lines(report.rows))
            files["safety.ndjson"].write(hashed.lines(report.findings))
            total.add(dataclasses.replace(report, rows=[], findings=[]))
        files["learnt.bin"].write(np.packbits(np.concatenate(keeps), bitorder="little"))
        files["ends.bin"].write(np.concatenate(ends).astype("<i8"))
        files["places.bin"].write(np.array(reader.places, "<i8"))
        facts = Facts(
            split=plan.split(number),
            tokens=place,
            documents=len(reader.places),
            counts={name: getattr(total, name) for name in COUNTS},
            safety=dict(sorted(total.safety.items())),
            files={name: [file.bytes, file.sha256.hexdigest()] for name, file in files.items()},
        )
    (draft / "facts.json").write_text(json.dumps(facts._asdict(), indent=1, sort_keys=True) + "\n")
    return facts


class _Noting:
    """A reader that notes of each document it yields in which file it lies, and at which byte it begins."""

    def __init__(self, reader: Reader) -> None:
        self.data = reader.data
        self.places: list[tuple[int, int]] = []
        self._corpus = _Passing(reader.corpus)
        self._reader = dataclasses.replace(reader, corpus=cast(Corpus, self._corpus))

    def read(self, units: Iterable[int], report: Report) -> Iterator[Any]:
        for pieces in self._reader.read(units, report):
            self.places.append(self._corpus.last)
            yield pieces


class _Passing:
    """A corpus that remembers what it yielded last: a reader yields a document before it takes the next."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self.files = corpus.files
        self.last = (0, 0)

    def read(self, units: Iterable[int], data: config.Data) -> Iterator[Entry]:
        for entry in self._corpus.read(units, data):
            self.last = (entry.file, -1 if entry.row.offset is None else entry.row.offset)
            yield entry
