"""Documents parted into train.jsonl, validation.jsonl and test.jsonl, with a manifest: all of it or nothing.

The sources are read twice: once for the keys of the documents, which take some 16 bytes each, and once to write.
What is written is what training would make of the sources: redacted, and without what holds no text.
"""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codex_jax import __version__, amounts, atomic, config
from codex_jax.data import allotment, documents, hashed, labels, layout, mixture, origin, rows, split_manifest
from codex_jax.data.allotment import SPLITS, Cuts, Keys
from codex_jax.data.documents import BadRow, Part
from codex_jax.data.hashed import Hashed
from codex_jax.data.reader import Reader
from codex_jax.data.report import Quarantine, Quarantined, Report
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety.gate import Gate


# So much of the sources is read between two looks at the share of bad rows.
_CALL_BYTES = 2_097_152
_PLACES = ("quarantined.ndjson", "safety.ndjson")


class Wish(NamedTuple):
    """How documents are to be parted."""

    shares: tuple[Fraction, ...]
    seed: int
    is_stable: bool
    """cut by share, so that other documents move none; else by exact counts"""
    duplicates: str
    """keep, drop or fail"""


class Row(NamedTuple):
    """A document as it is written."""

    key: bytes
    line: bytes
    place: Callable[[str], Quarantined]
    """says where it comes from"""


def open_reader(settings: config.Config, guard: Gate, called: str) -> Reader:
    """Return what reads the documents of data.paths, `called` so where they are no setting. Raises ConfigError."""
    data = settings.data
    if data.mix:
        raise ConfigError("data.mix has weights and fields for each source: split the files of each on their own")
    if data.validation_paths:
        raise ConfigError(
            f"data.validation_paths={','.join(data.validation_paths)} are held out already: leave them out, or name "
            "all files in data.paths"
        )
    return mixture.reader(settings, (mixture.alone(data, guard, called), "all"), layout.contents)


def split(reader: Reader, wish: Wish, out: Path) -> dict[str, Any]:
    """Write the splits of all documents of a reader to a new directory and return its manifest.

    Raises ConfigError for a directory that holds something and for a split that would be empty, AssetError for no
    documents, for copies that are to fail and for sources that change on the way, TrainingStopped for too many bad
    rows and when the disk refuses.
    """
    out = Path(os.path.abspath(out.expanduser()))
    _refuse_to_overwrite(out)
    before = origin.look([reader.corpus])
    found, quarantine = bytearray(), Quarantine(reader.data.max_quarantined)
    for row in _rows(reader, wish.seed, lambda report, last: quarantine.check([report], complete=last)):
        found += row.key
    keys = allotment.gather(found)
    if wish.duplicates == "fail" and len(keys.distinct) < keys.copies.sum():
        _refuse_copies(reader, wish.seed, keys)
    cuts = allotment.by_share(wish.shares) if wish.is_stable else allotment.by_count(keys, wish.shares)
    sizes = {name: cuts.sizes(keys)[name] for name in SPLITS[: len(wish.shares)]}
    _refuse_empty(sizes, wish)
    try:
        with _draft(out) as draft:
            facts = _write(draft, reader, wish, keys, cuts, sizes)
            split_manifest.write(draft, {**facts, "sources": [one._asdict() for one in origin.read(before)]})
    except OSError as error:
        raise atomic.refused(out, error) from error
    return split_manifest.read(out)


def _rows(reader: Reader, seed: int, note: Callable[[Report, bool], None]) -> Iterator[Row]:
    """Yield the documents in the order of their files; `note` is given each report, and whether it is the last."""
    corpus = reader.corpus
    step = max(1, _CALL_BYTES * corpus.num_units // corpus.num_bytes)
    for at in range(0, corpus.num_units, step):
        report = Report()
        for path, document, turns in reader.examined(range(at, min(at + step, corpus.num_units)), report):
            pieces = [piece for turn in turns for piece in turn.pieces]
            if not any(piece.learnt and piece.text.strip() for piece in pieces):
                report.filtered += 1
                continue
            parts = [Part("".join(piece.text for piece in turn.pieces), turn.role) for turn in turns]
            line = json.dumps(rows.to_row(parts, document.label, reader.data), ensure_ascii=False).encode()
            if len(line) > reader.data.max_line_bytes:
                reason = f"as a line of JSON longer than data.max_line_bytes={reader.data.max_line_bytes}"
                reader.put_aside(path, BadRow(document.offset, reason, document.line), report)
                continue
            report.trained += 1
            key = allotment.key(documents.of_parts(parts, None).digest, seed)
            yield Row(key, line + b"\n", functools.partial(reader.place, path, document))
        note(report, at + step >= corpus.num_units)


def _write(draft: Path, reader: Reader, wish: Wish, keys: Keys, cuts: Cuts, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Write the files and return what there is to say of them."""
    total, seen, written = Report(), np.zeros(len(keys.distinct), bool), Counter[str]()
    with contextlib.ExitStack() as stack:
        names = [*(f"{name}.jsonl" for name in sizes), *_PLACES]
        files = {name: Hashed(stack.enter_context(open(draft / name, "wb"))) for name in names}

        def note(report: Report, last: bool) -> None:
            files["quarantined.ndjson"].write(hashed.lines(report.rows))
            files["safety.ndjson"].write(hashed.lines(report.findings))
            total.add(dataclasses.replace(report, rows=[], findings=[]))

        for row in _rows(reader, wish.seed, note):
            rank = keys.rank(row.key)
            if rank is None:
                raise AssetError(f"{row.place('').file} has changed while it was read; run the command again")
            if wish.duplicates == "drop" and seen[rank]:
                continue
            seen[rank] = True
            name = cuts.split(row.key)
            files[f"{name}.jsonl"].write(row.line)
            written[name] += 1
    if total.trained != keys.copies.sum():
        raise AssetError("the sources have changed while they were read; run the command again")
    listed = {name: {"bytes": file.bytes, "sha256": file.sha256.hexdigest()} for name, file in files.items()}
    for name, different in sizes.items():
        listed[f"{name}.jsonl"] |= {"rows": written[name], "different": different}
    return {**_facts(reader, wish), "counts": _counts(total, keys, written.total()), "files": listed}


def _facts(reader: Reader, wish: Wish) -> dict[str, Any]:
    fields = ("text_field", "prompt_field", "completion_field", "messages_field", "document_bytes", "max_line_bytes")
    return {
        "made_with": {"codex_jax": __version__},
        "method": "stable" if wish.is_stable else "exact",
        "seed": wish.seed,
        "fractions": [float(share) for share in wish.shares],
        "duplicates": wish.duplicates,
        "safety": reader.gate.content(),
        "settings": {**{name: getattr(reader.data, name) for name in fields}, **labels.content(reader.data)},
    }


def _counts(total: Report, keys: Keys, written: int) -> dict[str, Any]:
    """Return the counts: read = written + dropped + filtered + quarantined + blocked."""
    return {
        "read": total.read,
        "written": written,
        "dropped": total.trained - written,
        "copies": total.trained - len(keys.distinct),
        "filtered": total.filtered,
        "quarantined": total.quarantined,
        "blocked": total.blocked,
        "findings": dict(sorted(total.safety.items())),
    }


def _refuse_to_overwrite(out: Path) -> None:
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} is there already; remove it, or name another directory")
    except OSError as error:
        raise AssetError(f"{out} cannot be read: {error.strerror}") from error


def _refuse_copies(reader: Reader, seed: int, keys: Keys) -> None:
    """Raise AssetError naming the first document that comes twice."""
    seen: dict[bytes, Row] = {}
    for row in _rows(reader, seed, lambda report, last: None):
        if first := seen.get(row.key):
            extra = int(keys.copies.sum()) - len(keys.distinct)
            raise AssetError(
                f"{amounts.counted(extra, 'document')} of {keys.copies.sum():,} are copies of others; the first:\n"
                f"  {first.place('the document')}\n  {row.place('its copy')}\n"
                "--duplicates=drop leaves copies out, --duplicates=keep keeps them together"
            )
        rank = keys.rank(row.key)
        if rank is not None and keys.copies[rank] > 1:
            seen[row.key] = row


def _refuse_empty(sizes: Mapping[str, int], wish: Wish) -> None:
    number = sum(sizes.values())
    if not number:
        raise AssetError("the sources hold no document with text that can be read; name others")
    if empty := [name for name, size in sizes.items() if not size]:
        shares = ", ".join(f"{float(share):g}" for share in wish.shares)
        raise ConfigError(
            f"of {amounts.counted(number, 'different document')} the fractions {shares} leave none for "
            f"{' and '.join(empty)}: give larger fractions there, or add documents"
        )


@contextlib.contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Make a directory beside `out` that takes its name when the block ends without error."""
    draft = out.with_name(f"{out.name}.{os.getpid()}.partial")
    shutil.rmtree(draft, ignore_errors=True)  # of a killed process that had the same number
    draft.mkdir(parents=True)
    try:
        yield draft
        for path in [*draft.iterdir(), draft]:
            atomic.sync(path)
        os.rename(draft, out)
        atomic.sync(out.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
