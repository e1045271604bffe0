"""What the command `model` does with files: check them, write them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codex_jax import amounts, config, trees
from codex_jax.cli import model_facts, opening
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import build, catalogue, export, lora, peft_files, pretrained, receipt, stored, weight_files
from codex_jax.models.stored import Stored
from codex_jax.tokenizers import loading
from codex_jax.training import beginning, program


# A run of a whole pod is opened on whatever is here.
_HERE = {"data": "0", "fsdp": "1", "tensor": "1", "coordinator": "", "num_processes": "1", "process_index": "0"}


def checked(name: str, expected: str) -> dict[str, Any]:
    """Return what the directory of a model holds, every byte of its weights read; AssetError for whatever is wrong."""
    path = Path(model_facts.directory(name))
    if name in catalogue.entries():
        weight_files.compare(path, catalogue.entry(name).files, name)
    receipt.check(path)
    facts = contents(path, expected, name if name in catalogue.entries() else "")
    published = receipt.published(path, facts["digest"])
    came = {"from": f"{published['repository']} at {published['commit']}"} if published else {}
    return {"directory": str(path), **came, **facts, "next": f"--config.model.weights={path}"}


def contents(path: Path, expected: str, name: str) -> dict[str, Any]:
    """Return what is in a directory.

    AssetError when it does not fit together, or has not the `expected` digest, ConfigError when it is another model
    than the one the catalogue has by that `name`; '' for neither.
    """
    # Of an encoder that ends in a vector nobody here reads what makes it, and some lack it.
    model = config.Model(name=name, weights=str(path))
    definition = build.define(model)
    if definition.shape.ending == "pooled":
        definition = build.without_ending(model)
    sources = pretrained.match(path, definition, {leaf for leaf, _ in trees.named_leaves(definition.abstract)})
    _check_finite(path, [tensor for source in sources for tensor in source.tensors])
    found = pretrained.digest(path)
    if expected and found != expected:
        raise AssetError(f"the weights in {path} have the SHA-256 {found}, and not {expected}")
    tokenizer = loading.load(path)
    return {
        "family": definition.family.name,
        "parameters": trees.num_parameters(definition.abstract),
        "files": [f"{file.name} {weight_files.of_file(file)}" for file in weight_files.files(path)],
        "digest": found,
        "tokenizer": f"{tokenizer.vocab_size} tokens",
    }


def _check_finite(directory: Path, tensors: Sequence[Stored]) -> None:
    """Raise AssetError, which counts them, when there are values that are no finite numbers."""
    counts = {one.name: count for one in tensors if (count := stored.num_not_finite(one))}
    if counts:
        first = next(iter(counts))
        raise AssetError(
            f"{amounts.counted(sum(counts.values()), 'value')} of the weights in {directory} are infinite or no "
            f"numbers, in {amounts.counted(len(counts), 'tensor')}: {counts[first]:,} in {first}; fetch them again"
        )


def exported(
    source: Path,
    destination: Path,
    *,
    merge: bool,
    step: int | None,
    dtype: str,
    shard_bytes: int | None,
    flax: bool,
    force: bool,
) -> list[tuple[str, str]]:
    """Write the model of a run, or of the directory of one of its checkpoints; return what to say of it.

    `merge` folds its adapters into it: ConfigError when there are none, or there are and nobody asked.
    """
    trained = _opened(source, step)
    parameters, definition = _whole(trained, source, merge=merge), trained.model.definition
    with export.directory(destination, force=force) as draft:
        if flax:
            export.write_flax(draft, definition, parameters, dtype=dtype)
        else:
            most = shard_bytes or export.SHARD_BYTES
            export.write(draft, definition, parameters, dtype=dtype, shard_bytes=most)
        trained.tokenizer.save(draft)
        roles = ("bos", "eos", "pad")
        export.add_ids(draft, {f"{role}_token_id": getattr(trained.tokenizer, f"{role}_id") for role in roles})
    names = sorted(path.name for path in destination.iterdir())
    return [
        ("written to", str(destination)),
        ("step", str(trained.step)),
        ("files", ", ".join(names)),
        ("digest", pretrained.digest(destination)),
    ]


def exported_adapter(
    source: Path, destination: Path, *, step: int | None, force: bool, **options: Any
) -> list[tuple[str, str]]:
    """Write the adapters of a run as PEFT has them; return what to say of it.

    ConfigError when there are none, or when they are not all that was trained.
    """
    if options != {"dtype": "float32", "shard_bytes": None, "flax": False}:
        raise ConfigError("--adapter writes one file of float32: leave out --dtype, --shard-bytes and --flax")
    trained = _opened(source, step)
    beside, adapters = lora.split(trained.model.target.parameters)
    if not adapters or beside:
        there = "is " + trees.named_leaves(beside)[0][0] if beside else "are no adapters"
        raise ConfigError(f"among what {source} trained there {there}: codex-jax model export or merge write all of it")
    settings, definition = trained.settings, trained.model.definition
    known = catalogue.entries().get(settings.model.name)
    base = known.hub.id if known and known.hub else Path(settings.model.weights).name
    with export.directory(destination, force=force) as draft:
        peft_files.write(draft, definition, lora.split(trained.parameters)[1], settings.adapter, base)
    return [
        ("written to", str(destination)),
        ("step", str(trained.step)),
        ("rank", str(settings.adapter.rank)),
        ("base", f"{base}, sha256 {pretrained.digest(Path(settings.model.weights))}"),
        ("next", f"--config.adapter.weights={destination}"),
    ]


def _opened(source: Path, step: int | None) -> opening.Trained:
    """Return a run, or the one of the directory of a checkpoint."""
    if source.parent.name == "checkpoints" and source.name.isdecimal():
        source, step = source.parent.parent, int(source.name)
    trained = opening.trained(source, step, [(f"parallel.{name}", value) for name, value in _HERE.items()])
    return _uncoded(trained) if trained.settings.quantization.mode else trained


def _uncoded(trained: opening.Trained) -> opening.Trained:
    """Return a run of a base in few bits with the base as it was published: what goes out is not rounded."""
    settings = dataclasses.replace(trained.settings, quantization=config.Quantization())
    model = program.make(settings, trained.mesh)
    _, frozen = beginning.load(settings, model, resumed=True)
    own, _ = trees.split(trained.parameters, trained.model.trained)
    return trained._replace(settings=settings, model=model, parameters=trees.joined(own, frozen))


def _whole(trained: opening.Trained, source: Path, *, merge: bool) -> dict[str, Any]:
    _, adapters = lora.split(trained.parameters)
    if bool(adapters) != merge:
        raise ConfigError(
            f"{source} trained adapters: codex-jax model merge folds them into the model"
            if adapters
            else f"{source} has no adapters to merge: use codex-jax model export"
        )
    return lora.merged(trained.parameters, trained.settings.adapter) if merge else trained.parameters
