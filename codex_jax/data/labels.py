"""Which class a document is of, with data.objective=classes: by a field of its row, or by the directory of its file."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from codex_jax import config
from codex_jax.data.documents import BadRow, Document, Piece
from codex_jax.errors import ConfigError


_SHOWN = 8


def check(data: config.Data) -> None:
    """Raise ConfigError when documents are to have classes and nobody has named them."""
    if data.objective == "classes" and not data.labels:
        raise ConfigError(
            "data.objective=classes, but nothing names the classes: set data.labels=NAME,NAME (weights that end in "
            "classes have names of their own for training; commands about data ask for them)"
        )


def number(value: Any, labels: tuple[str, ...]) -> int | None:
    """Return the number of the class that a field names; None when there is none of that name.

    A text is a name. A whole number is one where all names are whole numbers, else it counts the names from 0.
    """
    return _numbers(labels).get(value) if type(value) in (str, int) else None


@functools.lru_cache(maxsize=8)
def _numbers(labels: tuple[str, ...]) -> Mapping[str | int, int]:
    named: dict[str | int, int] = {name: place for place, name in enumerate(labels)}
    try:
        return named | {int(name): place for place, name in enumerate(labels)}
    except ValueError:
        return named | {place: place for place in range(len(labels))}


def none_of(labels: tuple[str, ...]) -> str:
    """Return how a reason ends that does not quote what was found instead of a label."""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"is none of data.labels={','.join(labels[:_SHOWN])}{more}"


def of_file(row: Document | BadRow, path: str, data: config.Data) -> Document | BadRow:
    """Return a document that has no class yet with the one that its file's directory is called after."""
    if data.objective != "classes" or isinstance(row, BadRow) or row.label is not None:
        return row
    label = number(directory(path), data.labels)
    if label is None:
        return BadRow(row.offset, f"the name of its directory {none_of(data.labels)}", row.line)
    return row._replace(label=label)


def directory(path: str) -> str:
    """Return the name of the directory that a file lies in, here or in a bucket."""
    return path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]


def pieces(document: Document) -> Iterator[Piece]:
    """Yield what stands for the class of a document before its text, nothing where it has none."""
    if document.label is not None:
        yield Piece("", learnt=False, label=document.label)


def content(data: config.Data) -> dict[str, Any]:
    """Return what decides the classes of documents, nothing where they have none."""
    return {"label_field": data.label_field, "labels": list(data.labels)} if data.objective == "classes" else {}
