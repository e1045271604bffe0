"""A run, or weights in Hugging Face's form, opened for use: everything that is read is what it says it is."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from codex_jax import changes, config, overrides, rundir, schema, sharding, trees
from codex_jax.checkpoint import store
from codex_jax.checkpoint.store import Found
from codex_jax.encoders import reading
from codex_jax.encoders.classifying import Classifier
from codex_jax.encoders.embedding import Embedder
from codex_jax.encoders.reading import Encoding
from codex_jax.errors import AssetError, ConfigError
from codex_jax.generation import text
from codex_jax.generation.text import Voice
from codex_jax.models import build, catalogue, lora, origin, peft_files, pretrained, quantize
from codex_jax.models.build import Definition
from codex_jax.safety import gate
from codex_jax.tokenizers import beside, loading
from codex_jax.tokenizers.tokenizer import Tokenizer
from codex_jax.training import beginning, program
from codex_jax.training.program import Program


def voice(path: Path, step: int | None = None, pairs: Sequence[tuple[str, str]] = ()) -> Voice:
    """Return the model of a run (its newest checkpoint, or that of a step) or of a directory of weights, to write with.

    `pairs` are settings to change, as on a command line. Raises AssetError when something is missing or not what it
    says it is, ConfigError for settings that cannot be.
    """
    if is_run(path):
        return _of_run(path, step, pairs)
    return _of_weights(directory_of_weights(path, step), pairs)


def embedder(path: Path, step: int | None, max_length: int) -> Embedder:
    """Return the encoder of a run or of a directory of weights, to make vectors with; raises as `voice` does."""
    return Embedder(*_encoding(path, step, max_length, build.without_ending))


def classifier(path: Path, step: int | None, max_length: int) -> Classifier:
    """Return the encoder of a run or of a directory of weights, to tell classes apart; raises as `voice` does."""
    return Classifier(_encoding(path, step, max_length, build.define), str(path))


def _encoding(path: Path, step: int | None, max_length: int, define: Callable[[config.Model], Definition]) -> Encoding:
    if not is_run(path):
        return reading.load(directory_of_weights(path, step), define, max_length=max_length)
    made = trained(path, step, ())
    return Encoding(made.model.definition, made.parameters, made.tokenizer, max_length)


def is_run(path: Path) -> bool:
    """Return whether a directory is of a run that has checkpoints, or had them."""
    return (path / "checkpoints").is_dir()


def directory_of_weights(path: Path, step: int | None) -> Path:
    """Return the directory of weights at a path, or of a model of the catalogue; AssetError when there is none.

    ConfigError when a step of it is asked for.
    """
    if not path.exists() and str(path) in catalogue.entries():
        path = origin.find(str(path)).path
    if not (path / "config.json").is_file():
        raise AssetError(f"{path} is neither the directory of a run nor one of weights: it has no config.json")
    if step is not None:
        raise ConfigError(f"{path} is a directory of weights, which has no steps: leave out --step")
    return path


class Published(NamedTuple):
    """Weights in Hugging Face's form, as the settings want them."""

    settings: config.Config
    mesh: Mesh
    definition: Definition
    parameters: dict[str, Any]
    tokenizer: Tokenizer


def published(directory: Path, pairs: Sequence[tuple[str, str]]) -> Published:
    """Return the weights of a directory, in few bits or with an adapter where settings say so; raises as `voice` does.

    What training would ask of a model is not asked here.
    """
    settings, _ = overrides.load("", [("model.weights", str(directory)), *pairs])
    settings = loading.of_weights(settings)
    if settings.adapter.weights:
        settings = peft_files.decided(settings, build.define(settings.model))
    elif settings.adapter.rank:
        raise ConfigError(f"adapter.rank={settings.adapter.rank} makes adapters to be trained: name adapter.weights")
    tokenizer = loading.load(Path(settings.tokenizer.path), settings.tokenizer.kind)
    mesh = sharding.make_mesh(settings.parallel)
    adapted = lora.adapted(build.define(settings.model), settings.adapter)
    definition = quantize.quantized(adapted, settings.quantization)
    places = jax.tree.map(lambda leaf: leaf.sharding, sharding.placed(definition.abstract, mesh))
    base, adapters = lora.split(places)
    parameters = pretrained.load(directory, definition, base)
    if adapters:
        found = peft_files.load(Path(settings.adapter.weights).expanduser(), definition, adapters)
        parameters = trees.joined(parameters, found)
    return Published(settings, mesh, definition, parameters, tokenizer)


class Trained(NamedTuple):
    """A run at one of its checkpoints."""

    settings: config.Config
    mesh: Mesh
    model: Program
    parameters: dict[str, Any]
    """all of them, adapters too"""
    tokenizer: Tokenizer
    step: int


def trained(run: Path, step: int | None, pairs: Sequence[tuple[str, str]]) -> Trained:
    """Return what a run has made by a step, or its newest checkpoint; AssetError when it is not as it was written."""
    written = rundir.read_settings(run)
    found = checkpoint(run, step)
    settings = settings_of(run, written, found, pairs)
    tokenizer = loading.load(run / "tokenizer", settings.tokenizer.kind)
    check_tokenizer(run, tokenizer, found)
    mesh = sharding.make_mesh(settings.parallel)
    model = program.make(settings, mesh)
    return Trained(settings, mesh, model, parameters(settings, model, found), tokenizer, found.step)


def _of_run(run: Path, step: int | None, pairs: Sequence[tuple[str, str]]) -> Voice:
    made = trained(run, step, pairs)
    settings = made.settings
    return text.open_voice(
        made.model.definition, made.mesh, made.parameters, made.tokenizer, gate.of(settings.safety), settings.generate
    )


def _of_weights(directory: Path, pairs: Sequence[tuple[str, str]]) -> Voice:
    settings, mesh, definition, parameters, tokenizer = published(directory, pairs)
    made = text.open_voice(definition, mesh, parameters, tokenizer, gate.of(settings.safety), settings.generate)
    ends = sorted({*made.ends, *_published_ends(directory)})
    return dataclasses.replace(made, ends=tuple(ends), opening=_opening(directory, tokenizer))


def _published_ends(directory: Path) -> list[int]:
    """Return the end tokens that a directory of weights names: a chat model has several."""
    named = beside.read(directory / "generation_config.json").get("eos_token_id")
    found = named if isinstance(named, list) else [] if named is None else [named]
    if any(type(index) is not int or not 0 <= index < 1 << 31 for index in found):
        raise AssetError(f"{directory / 'generation_config.json'} has eos_token_id={named!r:.80}, which are no tokens")
    return found


def _opening(directory: Path, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the token that these weights saw before every text, where their tokenizer puts one there."""
    processor = beside.read(directory / "tokenizer.json").get("post_processor")
    name = tokenizer.roles.bos
    adds = beside.read(directory / "tokenizer_config.json").get("add_bos_token")
    if tokenizer.bos_id is None or name is None or not (adds or (processor and name in json.dumps(processor))):
        return ()
    return (tokenizer.bos_id,)


def parameters(settings: config.Config, model: Program, found: Found) -> dict[str, Any]:
    """Return all parameters of a checkpoint's model, those that were frozen from the weights of the run."""
    beginning.digest(settings.model, model, found.meta)
    _, frozen = beginning.load(settings, model, resumed=True)
    return trees.joined(store.restore(found, model.target).parameters, frozen)


def checkpoint(run: Path, step: int | None) -> Found:
    """Return the checkpoint of a step, or the newest; AssetError when it is not there, or damaged."""
    root = run / "checkpoints"
    if step is not None:
        return store.find(root, step)
    found = store.find_newest(root)
    if found is None:
        raise AssetError(f"{root} has no checkpoint yet")
    if found.skipped:  # training goes on from an older one; a figure must not be of another step than is believed
        newest, reason = found.skipped[0]
        raise AssetError(f"checkpoint {newest} is damaged: {reason}; the newest whole one is --step={found.step}")
    return found


def settings_of(run: Path, written: dict[str, Any], found: Found, pairs: Sequence[tuple[str, str]]) -> config.Config:
    """Return the settings of the run with those changed that may, and the seed of the data that the checkpoint has."""
    saved = found.meta["settings"]
    allowed = written.get("checkpoint", {}).get("allow_change", ())  # of a run that has not saved since it went on so
    if changed := changes.beyond(changes.of_settings(saved, written), allowed):
        said = f"{run / 'config.json'} is not of the run of checkpoint {found.step}:"
        raise AssetError("\n".join([said, *changes.lines(changed)]))
    try:
        settings = config.resolve(overrides.change(dict(schema.flatten(written)), pairs))
    except ConfigError as error:
        if pairs:
            raise
        raise AssetError(f"{run / 'config.json'} is not what this version reads: {error}") from error
    if changed := changes.beyond(changes.of_settings(saved, config.to_dict(settings)), allowed):
        raise ConfigError("\n".join(["a run is opened with the settings it was made with:", *changes.lines(changed)]))
    # The variable CODEX_DATA_SEED may be another one by now, and the order decides nothing here.
    seed = found.data_state.get("fingerprint", {}).get("data.seed", -1)
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, seed=seed))


def check_tokenizer(run: Path, tokenizer: Tokenizer, found: Found) -> None:
    """Raise AssetError unless the tokenizer is that of the checkpoint."""
    # First: a store in the cache is named after what it holds, and with another tokenizer there would just be none.
    named = found.data_state.get("fingerprint", {}).items()
    there = {value for name, value in named if name.split(".")[-1] == "tokenizer"}
    if there != {tokenizer.digest}:
        raise AssetError(
            f"{run / 'tokenizer'} is not the tokenizer of checkpoint {found.step}: sha256 {tokenizer.digest[:12]}, "
            f"there {', '.join(str(value)[:12] for value in there)}"
        )
