"""The models that are known by name, and where the config.json of the configured one comes from."""

import functools
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from codex_jax import config, schema
from codex_jax.errors import AssetError, ConfigError


# Of a config.json: real ones have a few kilobytes.
_MOST_BYTES = 1 << 20


def published(model: config.Model) -> tuple[dict[str, Any], str]:
    """Return the config.json of a model, and its place for messages.

    It is the one given in model.architecture, else that of the weights, else that of the catalogue.
    """
    if model.architecture.lstrip().startswith("{"):
        return _parsed(model.architecture, "model.architecture"), "model.architecture"
    if model.architecture:
        return _read(Path(model.architecture).expanduser())
    if model.weights:
        return _read(Path(model.weights).expanduser() / "config.json")
    return dict(entry(model.name)["config"]), f"the catalogue's {model.name}"


def entry(name: str) -> Mapping[str, Any]:
    """Return what the catalogue says of a model; ConfigError names those there are."""
    known = _models()
    if name not in known:
        near = schema.nearest(name, list(known))
        raise ConfigError(f"model.name={name} is not in the catalogue{near}; there are: {', '.join(known)}")
    return known[name]


@functools.cache
def _models() -> Mapping[str, Mapping[str, Any]]:
    text = resources.files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8")
    found: Mapping[str, Mapping[str, Any]] = yaml.safe_load(text)["models"]
    return found


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise AssetError(f"{path} has more than {_MOST_BYTES:,} bytes: that is no config.json of a model")
        return _parsed(path.read_text(encoding="utf-8"), str(path)), str(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise AssetError(f"{path} cannot be read ({reason}); it describes the architecture of a model") from error


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AssetError(f"{place} is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise AssetError(f"{place} is not a JSON object")
    return values
