"""Where a model comes from: the directory of its weights, and the config.json that says what it is."""

from pathlib import Path
from typing import Any

from codex_jax import config, untrusted, whereabouts
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import catalogue, weight_files
from codex_jax.whereabouts import Resolved


OFFLINE = "offline"
"""in place of a directory: the usual places are looked at for the model of that name"""
ROOTS = ("CODEX_OFFLINE_MODELS_DIR",)
# Of a config.json: real ones have a few kilobytes.
_MOST_BYTES = 1 << 20
# They ask for a program that comes with the weights to be run.
_PROGRAMS = ("auto_map", "trust_remote_code", "model_file", "custom_pipelines")


def weights(model: config.Model) -> Path | None:
    """Return the directory of the weights to begin with; None for random ones.

    AssetError when it is not there: after model.weights=offline, and for a model that is never random, every place that
    was looked at is named; and when it has other files than those that the catalogue knows by their SHA-256.
    """
    named = asked(model)
    if named == OFFLINE:
        if not model.name:
            raise ConfigError("model.weights=offline looks for the files of model.name: set that, too")
        found = find(model.name).path
        weight_files.compare(found, catalogue.entry(model.name).files, model.name)
        return found
    return Path(named) if named else None


def asked(model: config.Model) -> str:
    """Return the directory that the settings name, OFFLINE for that of the model's name, or '' for random weights."""
    known = catalogue.entries().get(model.name)
    if model.weights == OFFLINE or (not model.weights and known and known.offline):
        return OFFLINE
    return str(Path(model.weights).expanduser()) if model.weights else ""


def find(name: str) -> Resolved:
    """Return where the files of a model of the catalogue are; AssetError lists every place that was looked at."""
    known = catalogue.entry(name)
    or_variable = f", or name their place in {known.variable}" if known.variable else ""
    or_download = f"\nwhere there is a network: codex-jax model download {name}" if known.hub else ""
    return whereabouts.search(
        f"the model {name}",
        whereabouts.usual(known.variable, ROOTS, known.directory),
        wanted="name the directory of its weights and config.json",
        advice=f"put its files there{or_variable}, or give the directory: model.weights=DIRECTORY{or_download}",
    )


def first_place(directory: str, variable: str = "") -> Path:
    """Return where a model of that directory's name is looked for first."""
    return next(whereabouts.usual(variable, ROOTS, directory))[0]


def published(model: config.Model) -> tuple[dict[str, Any], str]:
    """Return the config.json of a model, and its place for messages.

    It is the one given in model.architecture, else that of the weights, else that of the catalogue.
    """
    if model.architecture.lstrip().startswith("{"):
        place = "model.architecture"
        return _without_programs(untrusted.parse_object(model.architecture, place), place), place
    if model.architecture:
        return read(Path(model.architecture).expanduser())
    if directory := weights(model):
        return read(directory / "config.json")
    name = model.name or catalogue.DEFAULT
    return dict(catalogue.entry(name).config), f"the catalogue's {name}"


def read(path: Path) -> tuple[dict[str, Any], str]:
    """Return a config.json and its place; AssetError when it is none, or asks for code to be run."""
    try:
        return _without_programs(untrusted.read_object(path, _MOST_BYTES), str(path)), str(path)
    except OSError as error:
        raise AssetError(
            f"{path} cannot be read ({error.strerror}); it describes the architecture of a model"
        ) from error


def _without_programs(values: dict[str, Any], place: str) -> dict[str, Any]:
    if programs := [name for name in _PROGRAMS if values.get(name)]:
        raise AssetError(
            f"{place} has {', '.join(programs)}: it asks for a program of its own, and none is ever run. If its "
            f"model_type={values.get('model_type')!r:.40} is what it is, remove that from the file"
        )
    return values
