"""From parameters to a directory that transformers loads, there as a whole or not at all."""

import contextlib
import functools
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codex_jax import atomic, trees
from codex_jax.errors import AssetError
from codex_jax.models import outgoing, pretrained
from codex_jax.models.build import Definition
from codex_jax.models.families.family import Weight
from codex_jax.models.outgoing import Outgoing


# As transformers has it.
SHARD_BYTES = 50 * 10**9
# What is in such a directory, and may be removed with it.
_KNOWN = (
    "*.safetensors",
    "model.safetensors.index.json",
    "flax_model.msgpack",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.*",
    "merges.txt",
    "adapter_*",
    "README.md",
)


@contextlib.contextmanager
def directory(destination: Path, *, force: bool) -> Iterator[Path]:
    """Give an empty draft; it gets the name `destination` when the block ends without error, all of it on the disk.

    AssetError when something has that name, unless `force`, which replaces an earlier export and nothing else.
    """
    _refuse(destination, force=force)
    draft = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.draft")
    try:
        draft.mkdir(parents=True)
        yield draft
        for path in [*draft.iterdir(), draft]:
            atomic.sync(path)
        _refuse(destination, force=force)
        _take_place(draft, destination)
    except OSError as error:
        raise atomic.refused(destination, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _refuse(destination: Path, *, force: bool) -> None:
    if not os.path.lexists(destination):
        return
    if not force:
        raise AssetError(f"{destination} is there already; choose another directory, or --force to replace that export")
    if destination.is_symlink() or not destination.is_dir():
        raise AssetError(f"{destination} is no directory, and is not replaced")
    strange = [path.name for path in destination.iterdir() if path.is_dir() or not _is_known(path)]
    if strange:
        raise AssetError(f"{destination} holds {strange[0]}, which is of no export: nothing there is replaced")


def _is_known(path: Path) -> bool:
    return any(path.match(pattern) for pattern in _KNOWN)


def _take_place(draft: Path, destination: Path) -> None:
    old = draft.with_suffix(".old")
    if destination.exists():
        os.rename(destination, old)
    try:
        os.rename(draft, destination)
    except OSError:
        if old.exists():
            os.rename(old, destination)
        raise
    atomic.sync(destination.parent)
    shutil.rmtree(old, ignore_errors=True)


def write(
    draft: Path, definition: Definition, parameters: Mapping[str, Any], *, dtype: str, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write config.json and safetensors files of at most `shard_bytes`, the values as `dtype`: float32 and so on.

    One tensor is in memory at a time. Export what was loaded without training: the same names, shapes and, with the
    type it had, bytes.
    """
    _write_config(draft, definition, dtype)
    outgoing.write_safetensors(draft, list(tensors(definition, parameters)), dtype, shard_bytes)


def write_flax(draft: Path, definition: Definition, parameters: Mapping[str, Any], *, dtype: str) -> None:
    """Write config.json and flax_model.msgpack in the form that transformers 4 has for its Flax models."""
    _write_config(draft, definition, dtype)
    leaves = {name: row.leaf for _, row, names in pretrained.rows(definition) for name in names}
    tree: dict[str, Any] = {}
    for one in tensors(definition, parameters):
        *path, _ = one.name.split(".")
        last, turned = _flax_name(one, leaves[one.name], definition.shape.norm)
        node = functools.reduce(lambda inner, part: inner.setdefault(part, {}), path, tree)
        node[last] = Outgoing(one.name, one.shape[::-1], functools.partial(_turned, one)) if turned else one
    outgoing.write_flax(draft, tree, dtype)


def tensors(definition: Definition, parameters: Mapping[str, Any]) -> Iterator[Outgoing]:
    """Yield the tensors of a model under their published names; they are made when they are asked for."""
    leaves = dict(trees.named_leaves(parameters))
    for leaf, row, names in pretrained.rows(definition):
        shape = pretrained.published_shape(leaf, leaves[leaf].shape, row)
        for layer, name in enumerate(names):
            yield Outgoing(name, shape, functools.partial(_values, leaves[leaf], row, layer))


def _values(leaf: Any, row: Weight, layer: int) -> np.ndarray:
    values = np.asarray(jax.device_get(leaf[layer] if "{layer}" in row.name else leaf))
    if not row.leaf.endswith("/kernel"):
        return values if row.leaf.endswith("/embedding") else values.reshape(-1)
    matrix = values.reshape(len(values), math.prod(values.shape[1:]))
    return matrix.T if row.transposed else matrix


def _flax_name(one: Outgoing, leaf: str, norm: str) -> tuple[str, bool]:
    """Return what Flax calls the last part of a name, and whether it has the transposed matrix."""
    last = one.name.rsplit(".", 1)[-1]
    if last != "weight":
        return last, False
    if leaf.endswith("/scale"):
        return ("scale" if norm == "layer" else "weight"), False
    if leaf.endswith("/kernel") or leaf.startswith("lm_head/"):
        return "kernel", True
    return "embedding", False


def _turned(one: Outgoing) -> np.ndarray:
    return one.make().T


def _write_config(draft: Path, definition: Definition, dtype: str) -> None:
    # Where it lay on the machine it came from is nobody's business.
    private = ("_name_or_path", "torch_dtype", "transformers_version")
    values = {name: value for name, value in definition.published.items() if name not in private}
    if definition.family.network:
        values.setdefault("architectures", [definition.family.network])
    values["dtype"] = dtype
    write_json(draft / "config.json", values)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file as transformers does."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def add_ids(draft: Path, ids: Mapping[str, int | None]) -> None:
    """Write generation_config.json, and into config.json, the ids of tokens with a role: eos_token_id and so on."""
    known = {name: index for name, index in ids.items() if index is not None}
    config = json.loads((draft / "config.json").read_text(encoding="utf-8"))
    write_json(draft / "config.json", {**config, **dict.fromkeys(ids), **known})
    write_json(draft / "generation_config.json", {"_from_model_config": True, **known})
