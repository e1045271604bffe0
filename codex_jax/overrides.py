"""From a config file and a command line to settings, with the origin of every value."""

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from codex_jax import config, schema
from codex_jax.errors import ConfigError


# Set, they take the place of a default, and of nothing that a file or the command line says; of one setting the first.
VARIABLES = {
    "CODEX_SAFETY_BYPASS": "safety.bypass",
    "CODEX_SAFETY_BYPASS_REASON": "safety.bypass_reason",
    "CODEX_SAFETY_CLASSIFIER": "safety.classifier",
    "CODEX_SAFETY_POLICY_PATH": "safety.policy",
    "CODEX_ALLOW_REMOTE_TRACKING": "tracking.allow_remote",
    "CODEX_MLFLOW_ALLOW_REMOTE": "tracking.allow_remote",
    "MLFLOW_ALLOW_REMOTE": "tracking.allow_remote",
    "MLFLOW_ENABLE": "tracking.mlflow.enabled",
    "MLFLOW_TRACKING_URI": "tracking.mlflow.uri",
    "CODEX_MLFLOW_URI": "tracking.mlflow.uri",
    "MLFLOW_EXPERIMENT_NAME": "tracking.mlflow.experiment",
    "WANDB_ENABLE": "tracking.wandb.enabled",
    "WANDB_PROJECT": "tracking.wandb.project",
    "WANDB_ENTITY": "tracking.wandb.entity",
}


class Spec(NamedTuple):
    """What the flag --config says: `FILE[:ARGUMENT][,key=value]`."""

    path: Path
    argument: str
    """handed to the file's `get_config`"""
    pairs: list[tuple[str, str]]


def split(spec: str) -> Spec:
    """Part the value of --config; ConfigError when a part is no key=value."""
    head, *parts = spec.split(",")
    path, _, argument = head.partition(":")
    if "=" in argument:
        argument, parts = "", [argument, *parts]
    pairs: list[tuple[str, str]] = []
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            before = f"--config.{pairs[-1][0]}={pairs[-1][1]},{part}" if pairs else "--config.data.paths=a,b"
            raise ConfigError(f"{part!r} in --config={spec} is no key=value; a list is given by itself: {before}")
        pairs.append((name, value))
    return Spec(Path(path), argument, pairs)


def parse(arguments: Sequence[str], flags: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of `--config.key=value` and `--config.key value`; ConfigError for anything else.

    `flags` are the command's other ones, for a hint.
    """
    pairs = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        key, equals, value = argument.partition("=")
        if not key.startswith("--config."):
            raise ConfigError(f"unknown argument {argument}{schema.nearest(key, flags)}")
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise ConfigError(f"{key} has no value; write {key}=VALUE")
            value = waiting.pop(0)
        pairs.append((key.removeprefix("--config."), value))
    return pairs


def load(spec: str, overrides: Sequence[tuple[str, str]]) -> tuple[config.Config, dict[str, str]]:
    """Read the file of `FILE[:ARGUMENT][,key=value]`, apply overrides, and return the config and each value's origin.

    The file is Python and is executed, or the config.json of a run; without a spec it is the defaults that are changed.
    Raises ConfigError.
    """
    path, argument, inline = split(spec)
    given = dict(schema.flatten(_read_file(path, argument) if spec else config.default().to_dict()))
    base = dict(schema.flatten(config.default().to_dict()))
    origin = {name: "default" if base.get(name) == value else str(path) for name, value in given.items()}
    changes = [*inline, *overrides]
    origin |= dict.fromkeys((name for name, _ in changes), "command line")
    read: dict[str, str] = {}
    for variable, name in VARIABLES.items():
        if os.environ.get(variable) and origin.get(name) == "default":
            read[name] = os.environ[variable]
            origin[name] = f"variable {variable}"
    return config.resolve(change(given, [*changes, *read.items()])), origin


def change(given: Mapping[str, Any], changes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return settings by their dotted names with the texts of a command line in their place, read but not checked."""
    names = [*given, *(name for name, _ in changes)]
    kinds = {name: kind for name, _, kind in schema.walk(config.Config, given=names)}
    return {**given, **{name: _read_text(text, kinds[name]) if name in kinds else text for name, text in changes}}


def _read_text(text: str, kind: type) -> Any:
    try:
        return schema.parse(text, kind)
    except ValueError as error:
        return schema.Unread(str(error))


def _read_file(path: Path, argument: str) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist")
    if path.suffix == ".json":
        return _read_run(path, argument)
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


def completed(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings of a run; what its version did not know yet is at its default, as it was then."""
    return {**dict(schema.flatten(config.default().to_dict())), **written}


def _read_run(path: Path, argument: str) -> dict[str, Any]:
    if argument:
        raise ConfigError(f"{path} has the settings of one run: leave out :{argument}")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
        written = {name: tuple(value) if isinstance(value, list) else value for name, value in schema.flatten(settings)}
        return completed(written)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not the config.json of a run ({type(error).__name__}: {error})") from error
