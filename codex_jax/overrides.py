"""From a config file and a command line to settings, with the origin of every value."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codex_jax import config, schema
from codex_jax.errors import ConfigError


def load(spec: str, overrides: Sequence[tuple[str, str]]) -> tuple[config.Config, dict[str, str]]:
    """Read `FILE[:ARGUMENT][,key=value]`, apply overrides, and return the config and where each value came from.

    ARGUMENT is handed to the file's `get_config`. The file is Python and is executed. Raises ConfigError.
    """
    path, _, rest = spec.partition(":")
    argument, *pairs = rest.split(",") if rest else [""]
    if "=" in argument:
        argument, pairs = "", [argument, *pairs]
    settings = _read_file(Path(path), argument)
    base = dict(schema.flatten(config.default().to_dict()))
    origin = {
        name: "default" if name in base and base[name] == value else path for name, value in schema.flatten(settings)
    }
    known = {name: kind for name, _, kind in schema.walk(config.Config)}
    if origin.keys() != known.keys():
        config.resolve(settings)  # raises: the file itself has unknown or missing keys
    inline = [tuple(pair.partition("=")[::2]) for pair in pairs]
    problems = []
    for name, text in [*inline, *overrides]:
        if name not in known:
            problems.append(f"unknown key {name}{schema.nearest(name, list(known))}")
            continue
        try:
            _assign(settings, name, schema.parse(text, known[name]))
            origin[name] = "command line"
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        try:
            config.resolve(settings)
        except ConfigError as error:
            problems += str(error).splitlines()[1:]
        raise ConfigError(config.listing([line.removeprefix("  ") for line in problems]))
    return config.resolve(settings), origin


def _read_file(path: Path, argument: str) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist")
    spec = importlib.util.spec_from_file_location("_codex_jax_config", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config file {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = module.get_config(argument) if argument else module.get_config()
        if not isinstance(made, ConfigDict):
            raise ConfigError(f"{path}: get_config returned a {type(made).__name__}, not the ConfigDict of default()")
        return made.to_dict()
    except ConfigError:
        raise
    except Exception as error:  # the file is the user's own program: whatever it raises is a wrong config
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error


def _assign(settings: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        settings = settings[parent]
    settings[last] = value
