"""Reads a policy file as plain data within bounds: no tags, no aliases, no duplicate keys, limited size and nesting."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from codex_jax.errors import AssetError


MAX_BYTES = 16 << 20
MAX_DEPTH = 32
# Deeper lines are of no use: a message names a key of a rule.
_LINES_DEPTH = 3

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}

Where = tuple[str | int, ...]


class Tree(NamedTuple):
    """The data of a file, and the line of what is not too deep in it."""

    value: Any
    lines: Mapping[Where, int]
    """by path of keys and indices, from 1; empty for JSON"""


class Refused(Exception):
    """What is wrong with the file, and in which line where that is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")


def read(path: Path) -> Tree:
    """Return what a YAML or JSON (by its name) file says; AssetError names the file, the line and the reason."""
    try:
        text = content(path).decode()
        return _read_json(text) if path.suffix == ".json" else _read_yaml(text)
    except UnicodeDecodeError as error:
        raise AssetError(f"{path} is not UTF-8 at byte {error.start}; convert it") from error
    except Refused as error:
        raise AssetError(f"{path}: {error}") from error


def content(path: Path) -> bytes:
    """Return the bytes of a file of at most MAX_BYTES."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}; correct the path or give access to it") from error
    if len(data) > MAX_BYTES:
        raise AssetError(f"{path} has more than {MAX_BYTES:,} bytes, the most for a policy; split it")
    return data


def _read_json(text: str) -> Tree:
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise Refused(error.msg, error.lineno) from error
    except RecursionError as error:
        raise Refused(f"nested deeper than {MAX_DEPTH}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise Refused(str(error)) from error
    _check_depth(value)
    return Tree(value, {})


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise Refused(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return made


def _no_number(word: str) -> float:
    raise Refused(f"{word} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Refused(f"{digits[:40]} is too large for a number")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        if not inner:
            return
        level = [child for children in inner for child in children]
    raise Refused(f"nested deeper than {MAX_DEPTH}")


def _read_yaml(text: str) -> Tree:
    # The events of the parser instead of its loader: it would follow aliases and nest without bound.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder().build(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Refused(error.problem or "not YAML", mark.line + 1 if mark else None) from error
    except yaml.YAMLError as error:
        raise Refused(f"not YAML: {getattr(error, 'reason', 'a character it may not hold')}") from error


class _Builder:
    """Makes plain data of YAML's events."""

    def __init__(self) -> None:
        self._open: list[tuple[Any, Where]] = []
        self._keys: list[str | None] = []
        self._lines: dict[Where, int] = {}
        self._root: list[Any] = []

    def build(self, events: Iterable[yaml.Event]) -> Tree:
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise Refused("anchors and aliases (& and *) are not read; write it out", line)
            if getattr(event, "tag", None) not in (None, "!"):
                raise Refused(f"the tag {event.tag} is not read; a policy is plain data", line)
            self._take(event, line)
        return Tree(self._root[0] if self._root else None, self._lines)

    def _take(self, event: yaml.Event, line: int) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._put(_scalar(event), line)
        elif isinstance(event, yaml.MappingStartEvent):
            self._push({}, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._push([], line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._keys.pop()

    def _push(self, made: Any, line: int) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise Refused(f"nested deeper than {MAX_DEPTH}", line)
        where = self._put(made, line)
        self._open.append((made, where))
        self._keys.append(None)

    def _put(self, value: Any, line: int) -> Where:
        """Put a value where it belongs, or keep it as the key of the next one."""
        if not self._open:
            if self._root:
                raise Refused("a second document; one file is one policy", line)
            self._root.append(value)
            return ()
        container, where = self._open[-1]
        if isinstance(container, list):
            container.append(value)
            return self._at((*where, len(container) - 1), line)
        key = self._keys[-1]
        if key is None:
            self._keys[-1] = self._key(value, container, line)
            return where
        container[key] = value
        self._keys[-1] = None
        return self._at((*where, key), line)

    def _key(self, value: Any, container: dict[str, Any], line: int) -> str:
        if not isinstance(value, str):
            raise Refused(f"a key has to be a word, not {type(value).__name__}", line)
        if value in container:
            raise Refused(f"the key {value!r} stands twice in one mapping", line)
        return value

    def _at(self, where: Where, line: int) -> Where:
        if len(where) <= _LINES_DEPTH:
            self._lines[where] = line
        return where


def _scalar(event: yaml.ScalarEvent) -> Any:
    """Return the value of a scalar by the rules of YAML 1.2: `no` and `on` are words."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    return text
