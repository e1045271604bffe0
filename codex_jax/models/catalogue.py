"""The models that are known by name: what the catalogue says of each, checked when it is read."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

import yaml

from codex_jax import schema
from codex_jax.errors import AssetError, ConfigError


DEFAULT = "gpt2"
# What codex_ml called a network that is not here, and what to write for it.
_INSTEAD = {
    name: "is no model here: all-minilm-l6-v2 is the published encoder of that name, configs/gpt2.py:tiny a decoder as "
    "small as codex_ml's"
    for name in ("MiniLM", "minilm")
} | {"decoder_only": "is no model here: write gpt2 or llama-3.2-1b, and model.num_layers and so on for other sizes"}


class Hub(NamedTuple):
    """Where the weights are published."""

    id: str
    revision: str = ""
    """a commit, 40 hexadecimal digits; empty: nobody here has checked one"""


class Entry(NamedTuple):
    """What the catalogue says of a model."""

    alias: str
    config: Mapping[str, Any]
    """what its config.json says of the architecture"""
    licence: str
    tokenizer: str
    dtypes: tuple[str, ...]
    adapters: tuple[str, ...]
    quantizations: tuple[str, ...]
    directory: str
    """below the directories that hold many"""
    hub: Hub | None = None
    files: Mapping[str, str] = {}
    """SHA-256 of its files by name, where they are known"""
    variable: str = ""
    """environment variable that names its directory"""
    offline: bool = False
    """it is never made of random weights"""


def entry(name: str) -> Entry:
    """Return what the catalogue says of a model; ConfigError names those there are."""
    known = entries()
    if name in _INSTEAD:
        raise ConfigError(f"model.name={name} {_INSTEAD[name]}; there are: {', '.join(known)}")
    for alias, one in known.items():
        if one.hub and one.hub.id == name:
            raise ConfigError(f"model.name={name} is called {alias} here; there are: {', '.join(known)}")
    if name not in known:
        near = schema.nearest(name, list(known))
        raise ConfigError(f"model.name={name} is not in the catalogue{near}; there are: {', '.join(known)}")
    return known[name]


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Return the whole catalogue by alias."""
    return read(resources.files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8"), "catalogue.yaml")


def read(text: str, place: str) -> dict[str, Entry]:
    """Return the entries of a catalogue; AssetError lists everything that is not as it must be, each with its place."""
    try:
        whole = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise AssetError(f"{place} is not YAML: {error}") from error
    if not isinstance(whole, dict) or set(whole) != {"version", "models"} or whole["version"] != 1:
        raise AssetError(f"{place} must have exactly version: 1 and models")
    models = whole["models"]
    if not isinstance(models, dict) or not models:
        raise AssetError(f"{place}: models is no table of aliases")
    if problems := [f"{place}, {alias}{problem}" for alias in models for problem in _problems(alias, models[alias])]:
        raise AssetError("\n".join(problems))
    return {alias: _entry(alias, values) for alias, values in models.items()}


def _entry(alias: str, values: Mapping[str, Any]) -> Entry:
    lists = {name: tuple(values[name]) for name in ("dtypes", "adapters", "quantizations")}
    hub = Hub(**values["hub"]) if "hub" in values else None
    return Entry(**{"directory": alias, **values, "alias": alias, **lists, "hub": hub})


def _words(choices: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(word in choices for word in value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_hub(value: Any) -> bool:
    if not isinstance(value, dict) or not {"id"} <= set(value) <= {"id", "revision"}:
        return False
    revision = value.get("revision", 40 * "0")
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", str(value["id"])) and re.fullmatch(r"[0-9a-f]{40}", str(revision)))


def _is_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) and re.fullmatch(r"[0-9a-f]{64}", str(sha256))
        for name, sha256 in value.items()
    )


_DTYPES, _ADAPTERS, _QUANTIZATIONS = ("float32", "bfloat16", "float16"), ("lora",), ("int8", "nf4")
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "config": (lambda value: isinstance(value, dict) and _is_word(value.get("model_type")), "a table with model_type"),
    "licence": (_is_word, "a text"),
    "tokenizer": (_is_word, "the kind of a tokenizer"),
    "dtypes": (_words(_DTYPES), f"a list of {', '.join(_DTYPES)}"),
    "adapters": (_words(_ADAPTERS), f"a list of {', '.join(_ADAPTERS)}"),
    "quantizations": (_words(_QUANTIZATIONS), f"a list of {', '.join(_QUANTIZATIONS)}"),
}
_OPTIONAL: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "hub": (_is_hub, "a table with id (owner/name) and, where it is known, revision (40 hexadecimal digits)"),
    "files": (_is_files, "a table of SHA-256 by the name of a file"),
    "directory": (lambda value: _is_word(value) and "/" not in value, "the name of a directory"),
    "variable": (lambda value: bool(re.fullmatch("CODEX_[A-Z0-9_]+", str(value))), "a variable CODEX_..."),
    "offline": (lambda value: isinstance(value, bool), "true or false"),
}


def _problems(alias: Any, values: Any) -> Iterator[str]:
    """Yield what is wrong with an entry, each line to be put behind its alias."""
    if not isinstance(alias, str) or not isinstance(values, dict):
        yield ": is no table under a text"
        return
    known = {**_FIELDS, **_OPTIONAL}
    for name in values:
        if name not in known:
            yield f": unknown field {name}{schema.nearest(str(name), list(known))}"
        elif not known[name][0](values[name]):
            yield f": {name}={values[name]!r:.80} must be {known[name][1]}"
    yield from (f": missing field {name}" for name in _FIELDS if name not in values)
