"""Settings: from nested values to the frozen `Config` that the rest of the program reads; nothing else reads settings.

A file in `configs/` starts from `default()` and changes what differs; `overrides.load()` adds what the command line
says, and `resolve()` checks all of it. What the knobs are is in `knobs`.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from codex_jax import contradictions, schema
from codex_jax.errors import ConfigError
from codex_jax.knobs import (
    Adapter,
    Checkpoint,
    Config,
    Csv,
    Data,
    Eval,
    Generate,
    Ingredient,
    Mlflow,
    Model,
    Optimizer,
    Origin,
    Parallel,
    Run,
    Safety,
    Tensorboard,
    Tokenizer,
    Tracking,
    Train,
    Wandb,
)


__all__ = [
    "Adapter",
    "Checkpoint",
    "Config",
    "ConfigError",
    "Csv",
    "Data",
    "Eval",
    "Generate",
    "Ingredient",
    "Mlflow",
    "Model",
    "Optimizer",
    "Origin",
    "Parallel",
    "Run",
    "Safety",
    "Tensorboard",
    "Tokenizer",
    "Tracking",
    "Train",
    "Wandb",
    "add_source",
    "check",
    "default",
    "listing",
    "resolve",
    "to_dict",
]


def default() -> ConfigDict:
    """Return every knob at its default, locked: a file in `configs/` changes values, it adds no key."""
    return ConfigDict(dataclasses.asdict(Config())).lock()


def to_dict(config: Config) -> dict[str, Any]:
    """Return the settings as nested plain values, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def add_source(settings: ConfigDict, name: str, **values: Any) -> None:
    """Add a source to the mixture `data.mix` of a config file; what is not given keeps its default."""
    with settings.data.mix.unlocked():
        settings.data.mix[name] = ConfigDict(dataclasses.asdict(Ingredient()) | values)


def resolve(settings: Mapping[str, Any]) -> Config:
    """Check nested settings against the schema and return the frozen tree; ConfigError lists every violation."""
    given = dict(schema.flatten(settings))
    known = {name: (field, kind) for name, field, kind in schema.walk(Config, given=given)}
    for name, (field, _) in known.items():
        if name.startswith("data.mix."):  # of a source that is first named on the command line the rest is not given
            given.setdefault(name, field.default)
    problems = [f"unknown key {name}{schema.nearest(name, list(known))}" for name in given if name not in known]
    problems += [f"missing key {name}" for name in known if name not in given]
    values = {}
    for name, (field, kind) in known.items():
        if name in given:
            value, wrong = schema.check(name, given[name], field, kind)
            problems += wrong
            if not wrong:
                values[name] = value
    problems += contradictions.between(values)
    if problems:
        raise ConfigError(listing(problems))
    return schema.build(Config, values)


def check(settings: Config) -> None:
    """Raise ConfigError that lists every contradiction between settings."""
    if problems := list(contradictions.between(dict(schema.flatten(dataclasses.asdict(settings))))):
        raise ConfigError(listing(problems))


def listing(problems: list[str]) -> str:
    """Return the message of a ConfigError that names all problems."""
    head = (
        "the configuration has a mistake:" if len(problems) == 1 else f"the configuration has {len(problems)} mistakes:"
    )
    return "\n".join([head, *(f"  {problem}" for problem in problems)])
