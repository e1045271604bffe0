"""What `data split` says of the files it wrote, in their manifest.json, and what `data verify` reads again.

    {"kind": "split", "schema": 1, "root": "5e0b...", "made_with": {...},
     "method": "exact", "seed": 0, "fractions": [0.8, 0.1, 0.1], "duplicates": "keep", "safety": "9c41...",
     "counts": {"read": 31, "written": 30, "dropped": 0, "copies": 0, "filtered": 0, "quarantined": 1, ...},
     "files": {"train.jsonl": {"rows": 24, "different": 24, "bytes": 1620, "sha256": "1f3a..."}, ...},
     "sources": [{"name", "path", "bytes", "mtime_ns", "inode", "sha256"}]}

`different` counts documents without their copies. `root` is the digest of all else.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax import digest
from codex_jax.data import origin
from codex_jax.data.origin import Origin
from codex_jax.errors import AssetError


NAME = "manifest.json"
KIND, SCHEMA = "split", 1


def write(directory: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of files that are not in place yet."""
    listed = {"kind": KIND, "schema": SCHEMA, **facts}
    text = json.dumps({**listed, "root": digest.of_json(listed)}, indent=1, sort_keys=True)
    (directory / NAME).write_bytes(text.encode() + b"\n")


def is_in(directory: Path) -> bool:
    """Return whether a directory has the manifest of a split, damaged or not."""
    try:
        return f'"kind": "{KIND}"'.encode() in (directory / NAME).read_bytes()
    except OSError:
        return False


def read(directory: Path) -> dict[str, Any]:
    """Return what a manifest says; AssetError when it is damaged."""
    path = directory / NAME
    try:
        listed: dict[str, Any] = json.loads(path.read_bytes())
        root = listed.pop("root")
        if listed["schema"] != SCHEMA:
            raise ValueError(f"its schema is {listed['schema']!r}, this program reads {SCHEMA}")
        if digest.of_json(listed) != root:
            raise ValueError("its root digest does not fit what it lists")
        return listed
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{path} is damaged ({error}); remove {directory} and split again") from error


def verify(directory: Path, listed: Mapping[str, Any]) -> list[str]:
    """Return every source and every file that is not what the manifest says, a line each; all bytes are read."""
    files = origin.in_threads(lambda item: _difference(directory / item[0], item[1]), [*listed["files"].items()])
    sources = origin.damages([Origin(**fields) for fields in listed["sources"]])
    return [*(line for line in files if line), *sources]


def _difference(path: Path, facts: Mapping[str, Any]) -> str:
    try:
        size = path.stat().st_size
        found = digest.of_file(path)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if size != facts["bytes"]:
        return f"{path}: {size} bytes, {facts['bytes']} when it was written"
    return "" if found == facts["sha256"] else f"{path}: SHA-256 differs from when it was written"
