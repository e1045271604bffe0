"""Names for interchangeable parts: built-in ones register themselves, installed packages add theirs by entry points."""

import functools
from collections.abc import Callable
from importlib import metadata
from typing import Generic, TypeVar

from codex_jax import schema
from codex_jax.errors import ConfigError


T = TypeVar("T")


class Registry(Generic[T]):
    """Case-insensitive names of one group of parts.

    Entry points of the group are listed without importing them and loaded when they are asked for, so a broken package
    never gets in the way of another. Two parts of one name are an error that names where both come from.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self._built_in: dict[str, tuple[T, str]] = {}

    def register(self, name: str, part: T, source: str) -> None:
        """Add a part; `source` says where it comes from. Raises ConfigError when the name is taken."""
        key = name.lower()
        if key in self._built_in:
            raise ConfigError(self._conflict(name, self._built_in[key][1], source))
        self._built_in[key] = (part, source)

    def get(self, name: str) -> T:
        """Return the part of that name; ConfigError when there is none, or two, or when it cannot be imported."""
        key = name.lower()
        found: list[tuple[str, Callable[[], T]]] = [
            (source, functools.partial(lambda part: part, part)) for part, source in self._built_in_parts(key)
        ]
        found += [(source, point.load) for point, source in self._installed.get(key, [])]
        if not found:
            near = schema.nearest(key, self.names())
            raise ConfigError(f"{self.group} has no {name!r}{near}; there are: {', '.join(self.names())}")
        if len(found) > 1:
            raise ConfigError(self._conflict(name, found[0][0], found[1][0]))
        return self._load(name, *found[0])

    def names(self) -> list[str]:
        """Return every known name, sorted; nothing is imported for it."""
        return sorted({*self._built_in, *self._installed})

    def sources(self) -> dict[str, str]:
        """Return where the part of each name comes from (all of them in a conflict); nothing is imported for it."""
        found: dict[str, list[str]] = {name: [] for name in self.names()}
        for name, (_, source) in self._built_in.items():
            found[name].append(f"built-in, {source}")
        for name, points in self._installed.items():
            found[name] += [f"entry point {source}" for _, source in points]
        return {name: " and ".join(sources) for name, sources in found.items()}

    def _built_in_parts(self, key: str) -> list[tuple[T, str]]:
        return [self._built_in[key]] if key in self._built_in else []

    @functools.cached_property
    def _installed(self) -> dict[str, list[tuple[metadata.EntryPoint, str]]]:
        points: dict[str, list[tuple[metadata.EntryPoint, str]]] = {}
        for point in metadata.entry_points(group=self.group):
            package = point.dist.name if point.dist else "an unnamed package"
            points.setdefault(point.name.lower(), []).append((point, f"{point.value} of {package}"))
        return points

    def _load(self, name: str, source: str, load: Callable[[], T]) -> T:
        try:
            return load()
        except Exception as error:  # a package of someone else: whatever it raises, it cannot be used
            raise ConfigError(
                f"{self.group} {name!r} from {source} cannot be loaded: {type(error).__name__}: {error}"
            ) from error

    def _conflict(self, name: str, first: str, second: str) -> str:
        return f"{self.group} {name!r} is defined twice: by {first} and by {second}; remove one of them"
