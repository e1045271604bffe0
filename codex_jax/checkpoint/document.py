"""What a checkpoint says about itself in JSON: meta.json, and the position in the data under data/."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codex_jax.checkpoint import leaves, manifest
from codex_jax.checkpoint.leaves import Leaf
from codex_jax.errors import AssetError


FORMAT = 1
META, DATA = "meta.json", "data/iterator.json"
_LIBRARIES = ("flax", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint", "tensorstore")


@dataclasses.dataclass(frozen=True)
class Document:
    """The readable half of a checkpoint."""

    step: int
    leaves: dict[str, Leaf]
    data_state: dict[str, Any]
    meta: dict[str, Any]
    """what the trainer wanted to be remembered"""
    versions: dict[str, str]
    """of Python and the libraries that wrote it"""
    is_finite: bool = False
    """whether every value was looked at before it was written; older versions did not"""


def make(step: int, table: dict[str, Leaf], data_state: Mapping[str, Any], meta: Mapping[str, Any]) -> Document:
    """Return a document of its own values; ValueError unless `data_state` and `meta` survive a trip through JSON."""
    return Document(step, table, _plain("data_state", data_state), _plain("meta", meta), _versions())


def write(directory: Path, document: Document) -> None:
    """Write the files of a document below an existing directory."""
    meta = {
        "format": FORMAT,
        "step": document.step,
        "versions": document.versions,
        "finite": document.is_finite,
        "meta": document.meta,
        "leaves": leaves.to_json(document.leaves),
    }
    (directory / DATA).parent.mkdir()
    (directory / DATA).write_text(_dump(document.data_state))
    (directory / META).write_text(_dump(meta))


def read(directory: Path) -> Document:
    """Return the document of a verified directory; AssetError when it is of another step or of an unknown format."""
    with _as_written(directory):
        read = _own(directory, (directory / META).read_bytes())
        return Document(
            step=read["step"],
            leaves=leaves.from_json(read["leaves"]),
            data_state=json.loads((directory / DATA).read_bytes()),
            meta=read["meta"],
            versions=read["versions"],
            is_finite=read.get("finite") is True,
        )


def glance(directory: Path) -> dict[str, Any]:
    """Return what the trainer wanted to be remembered by a directory of which this alone is verified.

    AssetError as `read` raises it, and when the manifest or meta.json is not as it was written.
    """
    with _as_written(directory):
        return dict(_own(directory, manifest.content(directory, META))["meta"])


def _own(directory: Path, text: bytes) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads(text)
    if meta["format"] != FORMAT:
        raise AssetError(
            f"{directory}: {META} has format {meta['format']!r} and this version of codex_jax reads {FORMAT}; "
            "use the version that wrote it"
        )
    if str(meta["step"]) != directory.name:
        raise AssetError(f"{directory}: {META} is of step {meta['step']}; the directory was renamed")
    return meta


@contextlib.contextmanager
def _as_written(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AssetError(f"{directory}: {META} or {DATA} is not what codex_jax writes ({error!r})") from error


@functools.cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _LIBRARIES}}


def _plain(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        copy = json.loads(_dump(value))
    except TypeError as error:
        raise ValueError(f"{name} of a checkpoint must be JSON: {error}") from error
    if copy != value:
        raise ValueError(f"{name} of a checkpoint must be JSON: its keys must be strings, its sequences lists")
    return copy


def _dump(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
