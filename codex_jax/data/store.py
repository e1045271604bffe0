"""A finished store: its manifest, what must hold before it is read, and what `data verify` reads again.

    {"schema": 1, "root": "93ab...", "content": {...}, "made_with": {...},
     "sources": [{"name", "path", "bytes", "mtime_ns", "inode", "sha256"}, ...],
     "splits": {"train": {"read": 60, "trained": 54, ...}, "validation": ...},
     "shards": [{"split", "tokens", "documents", "counts", "safety", "files"}, ...]}

`root` is the digest of all else. This finds damage; it does not stop a forger, who can write a new manifest.
"""

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codex_jax import __version__, atomic, digest, schema
from codex_jax.data import origin, shard
from codex_jax.data.origin import Origin
from codex_jax.data.plan import SPLITS, Plan
from codex_jax.data.report import Report
from codex_jax.errors import AssetError


NAME = "manifest.json"
SCHEMA = 1
_SHOWN = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """A directory and what its manifest says of it."""

    directory: Path
    content: Mapping[str, Any]
    sources: Sequence[Origin]
    shards: Sequence[shard.Facts]

    def numbers(self, split: str) -> list[int]:
        """Return the numbers of the shards of a split, in their order."""
        return [number for number, facts in enumerate(self.shards) if facts.split == split]

    def report(self, split: str) -> Report:
        """Return what became of every document that was read for a split."""
        total = Report()
        for number in self.numbers(split):
            total.add(self.shards[number].report())
        return total

    @property
    def tokens(self) -> str:
        """Digest of what batches are made of; it does not depend on where the sources lie."""
        names = ("tokens.bin", "learnt.bin", "ends.bin")
        return digest.of_json([[facts.files[name] for name in names] for facts in self.shards])


def write(
    directory: Path, content: Mapping[str, Any], sources: Sequence[Origin], shards: Sequence[shard.Facts]
) -> None:
    """Write the manifest, whole or not at all: from then on the store counts."""
    made = Store(directory=directory, content=content, sources=sources, shards=shards)
    listed = {
        "schema": SCHEMA,
        "content": dict(content),
        "made_with": {"codex_jax": __version__, **{name: importlib.metadata.version(name) for name in _DECIDING}},
        "sources": [file._asdict() for file in sources],
        "splits": {split: _counts(made.report(split)) for split in SPLITS},
        "shards": [facts._asdict() for facts in shards],
    }
    with atomic.replacing(directory / NAME) as file:
        file.write(json.dumps({**listed, "root": digest.of_json(listed)}, indent=1, sort_keys=True).encode() + b"\n")


# Packages whose next version may read, redact or tokenise differently. Recorded, not compared: most change nothing.
_DECIDING = ("google-re2", "tokenizers")


def _counts(report: Report) -> dict[str, Any]:
    return {name: getattr(report, name) for name in shard.COUNTS} | {"safety": dict(report.safety)}


def read(directory: Path) -> Store:
    """Return a store after checking its manifest alone; AssetError when there is none, or it is damaged."""
    path = directory / NAME
    try:
        listed = json.loads(path.read_bytes())
        root = listed.pop("root")
        if listed["schema"] != SCHEMA:
            raise ValueError(f"its schema is {listed['schema']!r}, this program reads {SCHEMA}")
        if digest.of_json(listed) != root:
            raise ValueError("its root digest does not fit what it lists")
        sources = [Origin(**fields) for fields in listed["sources"]]
        shards = [shard.Facts(**fields) for fields in listed["shards"]]
        return Store(directory=directory, content=listed["content"], sources=sources, shards=shards)
    except FileNotFoundError:
        if mixed := sorted(str(found.parent) for found in directory.glob(f"*/{NAME}")):
            raise AssetError(f"{directory} holds the stores of a mixture: name one of {', '.join(mixed)}") from None
        raise AssetError(
            f"{directory} holds no finished store: make it with `codex-jax data build` and the same settings"
        ) from None
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{path} is damaged ({error}); remove {directory} and build the store again") from error


def open_store(directory: Path, plan: Plan) -> Store:
    """Return a store that is what the plan says, and whole as far as sizes tell.

    Raises AssetError naming every source that has changed and every setting that differs.
    """
    found = read(directory)
    stale = origin.differences(found.sources, origin.look(plan.corpora))
    # What follows from other files needs no mention beside them.
    names = (found.content.keys() | plan.content.keys()) - (
        {"corpus", "validation", "units", "shards"} if stale else set()
    )
    stale += [
        f"{name}: {schema.shown(found.content.get(name))} in the store, {schema.shown(plan.content.get(name))} now"
        for name in sorted(names)
        if found.content.get(name) != plan.content.get(name)
    ]
    if stale:
        raise AssetError(
            _listed(f"the store {directory} is one of other data:", stale)
            + "\nput them back, remove the store, or name another in data.store"
        )
    damaged = [line for number, facts in enumerate(found.shards) for line in _sizes(directory, number, facts)]
    if damaged:
        raise AssetError(
            _listed(f"the store {directory} is damaged:", damaged)
            + f"\nremove {directory / NAME} and run `codex-jax data build`: it makes the damaged shards again"
        )
    return found


def verify(found: Store) -> list[str]:
    """Return every source and every file of the store that differs from the manifest; all their bytes are read."""
    places = [(shard.directory_of(found.directory, number), facts) for number, facts in enumerate(found.shards)]
    in_shards = origin.in_threads(lambda place: shard.problems(*place), places)
    return [*origin.damages(found.sources), *(line for lines in in_shards for line in lines)]


def _sizes(directory: Path, number: int, facts: shard.Facts) -> list[str]:
    return shard.sizes(shard.directory_of(directory, number), facts)


def _listed(head: str, lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "".join([head, *(f"\n  {line}" for line in [*lines[:_SHOWN], *more])])
