"""What the command `model` tells of models: sizes, memory, and where their files are."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from codex_jax import config, trees, whereabouts
from codex_jax.models import build, catalogue, origin
from codex_jax.models.build import Definition


def listed() -> list[dict[str, Any]]:
    """Return a row for each model of the catalogue."""
    return [
        {
            "alias": alias,
            "family": entry.config["model_type"],
            "parameters": trees.num_parameters(_defined(entry).abstract),
            "licence": entry.licence,
            **_whereabouts(alias),
        }
        for alias, entry in catalogue.entries().items()
    ]


def shown(name_or_directory: str) -> dict[str, Any]:
    """Return what is known of a model of the catalogue, or of a directory."""
    facts: dict[str, Any] = {"model": name_or_directory}
    if name_or_directory in catalogue.entries():
        entry = catalogue.entry(name_or_directory)
        definition = _defined(entry)
        named = ("licence", "tokenizer", "dtypes", "adapters", "quantizations")
        facts |= {name: _plain(getattr(entry, name)) for name in named}
        hub = entry.hub or catalogue.Hub("")
        hashes = [f"{name} {sha256}" for name, sha256 in entry.files.items()]
        facts |= {"hub": hub.id, "revision": hub.revision or None, "hashes": hashes or None}
        facts |= _whereabouts(name_or_directory)
    else:
        definition = build.define(config.Model(weights=directory(name_or_directory)))
    count = trees.num_parameters(definition.abstract)
    shape = dataclasses.asdict(definition.shape)
    kinds = [f"{shape['layers'].count(kind)} x {_kind(kind)}" for kind in definition.shape.kinds]
    sizes = {name: _plain(value) for name, value in shape.items() if name != "layers"}
    return {
        **facts,
        "family": definition.family.name,
        "parameters": count,
        "architecture": {"num_layers": definition.shape.num_layers, "kinds_of_layers": kinds, **sizes},
        # AdamW: parameters, gradient and two moments, float32 each; activations come on top.
        "memory_bytes": {"parameters": 4 * count, "training": 16 * count},
    }


def _defined(entry: catalogue.Entry) -> Definition:
    return build.define(config.Model(architecture=json.dumps(entry.config)))


def _whereabouts(alias: str) -> dict[str, str]:
    try:
        found = origin.find(alias)
    except whereabouts.NotFound as error:
        if error.promised:
            raise
        return {"path": "", "rule": ""}
    return {"path": str(found.path), "rule": found.rule}


def directory(name_or_directory: str) -> str:
    """Return the directory of a model; AssetError, or ConfigError for a name that is not known, when there is none."""
    if name_or_directory in catalogue.entries():
        return str(origin.find(name_or_directory).path)
    path = Path(name_or_directory).expanduser()
    if not path.is_dir():
        catalogue.entry(name_or_directory)
    return str(path)


def _kind(kind: Any) -> str:
    seen = f"window {kind.window}" if kind.window else "all before"
    return f"{seen}, {'learnt positions' if kind.rope is None else f'rope {kind.rope.theta:g} {kind.rope.scaling}'}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
