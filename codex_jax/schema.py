"""What a knob is: a dataclass field with a meaning, a unit and a range; and how values are read and checked against it.

The sections themselves are in `config`. Everything here collects violations in a list, so that a user sees them all at
once.
"""

import ast
import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
TRUE = ("true", "on", "yes", "1")
FALSE = ("false", "off", "no", "0")


def knob(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> Any:
    """Declare one setting: its default, what it means (with unit), and the values it may take (bounds inclusive).

    `aliases` are other words for some of its choices.
    """
    limits = {"meaning": meaning, "low": low, "high": high, "choices": tuple(choices), "aliases": aliases or {}}
    return dataclasses.field(default=default, metadata=limits)


def section(cls: type) -> Any:
    """Declare a nested group of knobs."""
    return dataclasses.field(default_factory=cls)


class Sections(dict[str, Any]):
    """Sections by names that a user chose, in their order. Never changed once it is made, so that it can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


def sections(cls: type) -> Any:
    """Declare any number of groups of knobs, each under a name of the user's."""
    return dataclasses.field(default_factory=Sections, metadata={"sections": cls})


def chosen(given: Iterable[str], prefix: str) -> list[str]:
    """Return the names that users chose below `prefix`, in the order they are met."""
    return list(dict.fromkeys(name.removeprefix(prefix).split(".")[0] for name in given if name.startswith(prefix)))


def walk(
    cls: type, prefix: str = "", given: Collection[str] = ()
) -> Iterator[tuple[str, dataclasses.Field[Any], type]]:
    """Yield (dotted name, field, type) for every knob below a section, in the order they are written.

    `given` are the dotted names in use: what users chose to call their sections is read from them.
    """
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name, kind = prefix + field.name, types[field.name]
        if "sections" in field.metadata:
            for one in chosen(given, name + "."):
                yield from walk(field.metadata["sections"], f"{name}.{one}.", given)
        elif dataclasses.is_dataclass(kind):
            yield from walk(typing.cast(type, kind), name + ".", given)
        else:
            yield name, field, kind


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) for every leaf of a nested mapping."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ' (did you mean X?)' for the known name closest to `name`, or '' when none is close."""
    by_last_part = {key.rsplit(".", 1)[-1]: key for key in known}
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    found = found or [
        by_last_part[key] for key in difflib.get_close_matches(name.rsplit(".", 1)[-1], list(by_last_part), n=1)
    ]
    return f" (did you mean {found[0]}?)" if found else ""


class Unread(NamedTuple):
    """The place of a value that could not be read, until `check` reports why."""

    problem: str


def parse(text: str, kind: type) -> Any:
    """Read a command-line value as `kind`; raise ValueError saying what was expected.

    Only a string keeps its blanks.
    """
    if kind is str:
        return text
    text = text.strip()
    if kind is bool:
        if text.lower() in TRUE + FALSE:
            return text.lower() in TRUE
        raise ValueError(f"{text!r} is not a bool: write true or false")
    if typing.get_origin(kind) is tuple:
        if text.startswith(("(", "[")):
            try:
                value = ast.literal_eval(text)
                return (value,) if isinstance(value, str) else tuple(value)
            except (SyntaxError, ValueError, TypeError):
                raise ValueError(f"{text!r} is not a list: write a,b or ('a','b')") from None
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return kind(text.replace("_", "")) if kind is int else kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {'an int' if kind is int else 'a ' + kind.__name__}") from None


def shown(value: Any) -> str:
    """Return a value as a message names it: true, not True; nothing, not None; of each SHA-256 the first 12 digits."""
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else _DIGEST.sub(r"\1", repr(value))


def check(name: str, value: Any, field: dataclasses.Field[Any], kind: type) -> tuple[Any, list[str]]:
    """Return the value in its exact type, and what is wrong with it (nothing, or one line a violation)."""
    limits = field.metadata
    if isinstance(value, Unread):
        return value, [f"{name}: {value.problem}"]
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (tuple, list)) or not all(isinstance(part, str) for part in value):
            return value, [f"{name}={value!r} is not a list of strings"]
        return tuple(value), []
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        return value, [f"{name}={value!r} is of type {type(value).__name__}, expected {kind.__name__}"]
    if limits["choices"] and (value := limits["aliases"].get(value, value)) not in limits["choices"]:
        return value, [f"{name}={value!r} is not one of {', '.join(limits['choices'])}"]
    if isinstance(value, float) and not math.isfinite(value):
        return value, [f"{name}={value} is not finite"]
    if limits["low"] is not None and value < limits["low"]:
        return value, [f"{name}={value} is too small: the least is {limits['low']}"]
    if limits["high"] is not None and value > limits["high"]:
        return value, [f"{name}={value} is too large: the most is {limits['high']}"]
    return value, []


def build(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Make the frozen tree of sections from checked values keyed by dotted name."""
    types = typing.get_type_hints(cls)
    made: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        name, kind = prefix + field.name, types[field.name]
        if inner := field.metadata.get("sections"):
            names = chosen(values, name + ".")
            made[field.name] = Sections({one: build(inner, values, f"{name}.{one}.") for one in names})
        else:
            nested = dataclasses.is_dataclass(kind)
            made[field.name] = build(typing.cast(type, kind), values, name + ".") if nested else values[name]
    return cls(**made)
