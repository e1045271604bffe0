"""What the command `model` does with files: check them, write them."""

from pathlib import Path
from typing import Any

from codex_jax import config, trees
from codex_jax.cli import model_facts, opening
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import build, catalogue, export, lora, pretrained, weight_files
from codex_jax.tokenizers import loading


# A run of a whole pod is opened on whatever is here.
_HERE = {"data": "0", "fsdp": "1", "tensor": "1", "coordinator": "", "num_processes": "1", "process_index": "0"}


def checked(name: str, expected: str) -> dict[str, Any]:
    """Return what the directory of a model holds, every byte of its weights read; AssetError for whatever is wrong."""
    path = Path(model_facts.directory(name))
    definition = build.define(config.Model(weights=str(path)))
    pretrained.match(path, definition, {leaf for leaf, _ in trees.named_leaves(definition.abstract)})
    found = pretrained.digest(path)
    if expected and found != expected:
        raise AssetError(f"the weights in {path} have the SHA-256 {found}, and not {expected}")
    files = {file.name: weight_files.of_file(file) for file in weight_files.files(path)}
    known = catalogue.entries()[name].files if name in catalogue.entries() else {}
    if wrong := [file for file, sha256 in files.items() if known.get(file, sha256) != sha256]:
        raise AssetError(f"{path / wrong[0]} is not the file that the catalogue knows as {name}'s: {known[wrong[0]]}")
    tokenizer = loading.load(path)
    return {
        "directory": str(path),
        "family": definition.family.name,
        "parameters": trees.num_parameters(definition.abstract),
        "files": [f"{file} {sha256}" for file, sha256 in files.items()],
        "digest": found,
        "tokenizer": f"{tokenizer.vocab_size} tokens",
        "next": f"--config.model.weights={path}",
    }


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
    if source.parent.name == "checkpoints" and source.name.isdecimal():
        source, step = source.parent.parent, int(source.name)
    trained = opening.trained(source, step, [(f"parallel.{name}", value) for name, value in _HERE.items()])
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


def _whole(trained: opening.Trained, source: Path, *, merge: bool) -> dict[str, Any]:
    _, adapters = lora.split(trained.parameters)
    if bool(adapters) != merge:
        raise ConfigError(
            f"{source} trained adapters: codex-jax model merge folds them into the model"
            if adapters
            else f"{source} has no adapters to merge: use codex-jax model export"
        )
    return lora.merged(trained.parameters, trained.settings.adapter) if merge else trained.parameters
