"""Adapters as PEFT keeps them, adapter_config.json and adapter_model.safetensors: read and written without it.

D inputs · F features · R rank
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from codex_jax import config, trees
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import lora, origin, pretrained, safetensors_file, weight_files
from codex_jax.models.build import Definition
from codex_jax.models.decoder import Decoder
from codex_jax.models.families.family import Weight
from codex_jax.models.stored import DTYPES, Stored


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Fields of adapter_config.json that do not change what the tensors in the file compute.
_NO_MATTER = (
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
)
_MOST_LISTED = 20


class Part(NamedTuple):
    """A leaf of an adapter here and its tensors there."""

    leaf: str
    row: Weight
    names: list[str]
    """one, or one for each layer"""


def decided(settings: config.Config, definition: Definition) -> config.Config:
    """Return settings with rank, alpha, rslora and targets as the adapter in `adapter.weights` has them.

    ConfigError when they are set and not as there, AssetError when that is no adapter of this model that can be used.
    """
    adapter = settings.adapter
    directory = Path(adapter.weights).expanduser()
    there = _described(directory, definition)
    if adapter.rank:
        now = dataclasses.replace(adapter, targets=_exactly(lora.targets(definition, adapter)))
        problems = [
            f"adapter.{name}={getattr(now, name)}, but {directory} has {getattr(there, name)}"
            for name in ("rank", "alpha", "rslora", "targets")
            if getattr(now, name) != getattr(there, name)
        ]
        if problems:
            raise ConfigError(config.listing([*problems, "leave out adapter.rank and the others to take them from it"]))
        return settings
    there = dataclasses.replace(there, weights=adapter.weights, dropout=adapter.dropout)
    made = dataclasses.replace(settings, adapter=there)
    config.check(made)
    return made


def load(directory: Path, definition: Definition, places: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of an adapter as float32, on the shardings of the nested dict `places`.

    `definition` is of the adapted model. AssetError lists all in which the two differ.
    """
    tensors, shapes = _tensors(directory), dict(trees.named_leaves(definition.abstract))
    sources = {}
    problems = []
    for part in parts(definition):
        found = [_take(tensors, definition, name) for name in part.names]
        shape = shapes[part.leaf].shape
        wanted = shape[-2:][::-1]
        problems += [
            f"{name}: {'is missing' if one is None else f'has shape {one.shape} of {one.dtype}, here {wanted}'}"
            for name, one in zip(part.names, found, strict=True)
            if one is None or one.shape != wanted or one.dtype not in DTYPES
        ]
        sources[part.leaf] = pretrained.Source(part.leaf, shape, part.row, [one for one in found if one])
    problems += [f"{name}: is no adapter of this model" for name in sorted(tensors)]
    if problems:
        more = [f"and {len(problems) - _MOST_LISTED} more"] if len(problems) > _MOST_LISTED else []
        head = f"{directory / WEIGHTS} does not fit; {len(problems)} tensors differ:"
        raise AssetError("\n  ".join([head, *problems[:_MOST_LISTED], *more]))
    return jax.tree_util.tree_map_with_path(
        lambda path, place: pretrained.filled(sources[trees.name(path)], place), dict(places)
    )


def write(draft: Path, definition: Definition, adapters: Mapping[str, Any], adapter: config.Adapter, base: str) -> None:
    """Write the adapters of an adapted model into a directory that `peft` loads on the model `base`."""
    from safetensors.numpy import save_file

    leaves = dict(trees.named_leaves(jax.device_get(adapters)))
    found = parts(definition)
    tensors = {
        name: np.ascontiguousarray(leaf_NIO[layer].T)
        for part in found
        for leaf_NIO in [leaves[part.leaf].reshape(-1, *leaves[part.leaf].shape[-2:])]
        for layer, name in enumerate(part.names)
    }
    save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if definition.family.make is Decoder else None,
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "use_rslora": adapter.rslora,
        "target_modules": _target_modules(definition, found),
        # GPT-2's own class of products keeps (in, out).
        "fan_in_fan_out": not all(row.transposed for row in _kernels(definition).values()),
        "bias": "none",
        "inference_mode": True,
    }
    (draft / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def parts(definition: Definition) -> list[Part]:
    """Return the leaves of the adapters of a model with the names of their tensors."""
    kernels = _kernels(definition)
    found = []
    for leaf, _ in trees.named_leaves(lora.split(definition.abstract)[1]):
        product, _, last = leaf.rpartition("/")
        kernel = kernels[product]
        name = f"{_PREFIX}{kernel.name.removesuffix('.weight')}.lora_{last[-1].upper()}.weight"
        layers = range(definition.shape.num_layers) if "{layer}" in name else (0,)
        # Both are (out, in) there, whatever the kernel is.
        found.append(Part(leaf, Weight(leaf, name, True), [name.format(layer=layer) for layer in layers]))
    return found


def _target_modules(definition: Definition, found: list[Part]) -> list[str]:
    """Return the ends of names by which PEFT finds the adapted products, and no others.

    BERT's `output.dense` ends two names of a layer: such a one is written out for every layer.
    """
    adapted = {_module(part.row.name) for part in found}
    others = {kernel.name.removesuffix(".weight") for kernel in _kernels(definition).values()} - adapted
    names = []
    for name in adapted:
        end = name.rpartition("{layer}.")[2]
        if any(other.endswith(f".{end}") for other in others):
            names += [f"{layer}.{end}" for layer in range(definition.shape.num_layers)]
        else:
            names.append(end)
    return sorted(names)


def _kernels(definition: Definition) -> dict[str, Weight]:
    """Return the row of the weight table of every product."""
    rows = definition.family.weights(definition.shape)
    return {row.leaf.removesuffix("/kernel"): row for row in rows if row.leaf.endswith("/kernel")}


def _module(name: str) -> str:
    return name.removeprefix(_PREFIX).rpartition(".lora_")[0]


def _exactly(names: list[str]) -> tuple[str, ...]:
    return tuple(f"^{name}$" for name in names)


def _described(directory: Path, definition: Definition) -> config.Adapter:
    """Return the settings of an adapter on disk; AssetError names all of it that is not supported here."""
    values, place = origin.read(directory / CONFIG)
    problems = []
    if values.get("peft_type") != "LORA":
        problems.append(f"peft_type={values.get('peft_type')!r:.40}")
    rank, alpha, rslora = values.get("r"), values.get("lora_alpha"), values.get("use_rslora") or False
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= 65536:
        problems.append(f"r={rank!r:.40}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        problems.append(f"lora_alpha={alpha!r:.40}")
    # What changes the base before training is in no adapter.
    if values.get("init_lora_weights", True) not in (True, False, None, "gaussian", "orthogonal"):
        problems.append(f"init_lora_weights={values['init_lora_weights']!r:.40}")
    if values.get("bias", "none") != "none":
        problems.append(f"bias={values['bias']!r:.40}")
    known = (*_NO_MATTER, "peft_type", "r", "lora_alpha", "use_rslora", "init_lora_weights", "bias")
    problems += [f"{name}={value!r:.60}" for name, value in sorted(values.items()) if value and name not in known]
    if problems:
        raise AssetError(f"{place} has what is not supported here: {', '.join(problems)}")
    assert isinstance(rank, int) and isinstance(alpha, int | float)
    targets = _exactly(_adapted_products(directory, definition))
    return config.Adapter(rank=rank, alpha=float(alpha), rslora=bool(rslora), targets=targets)


def _adapted_products(directory: Path, definition: Definition) -> list[str]:
    """Return the products that a file has adapters for."""
    names = set(_tensors(directory))
    found = []
    for product in lora.products(definition):
        name = _kernels(definition)[product].name.removesuffix(".weight").format(layer=0)
        if names & {f"{_PREFIX}{one}.lora_A.weight" for one in (name, name.removeprefix(definition.family.prefix))}:
            found.append(product)
    if not found:
        raise AssetError(f"{directory / WEIGHTS} has no adapter of a product of this {definition.family.name}")
    return found


def _tensors(directory: Path) -> dict[str, Stored]:
    path = directory / WEIGHTS
    if not os.path.lexists(path):
        unsafe = (
            " (adapter_model.bin can hold programs and is never opened)" if path.with_suffix(".bin").exists() else ""
        )
        raise AssetError(f"{path} is not there{unsafe}: name the directory of an adapter that PEFT wrote")
    return safetensors_file.tensors(weight_files.checked(directory, WEIGHTS))


def _take(tensors: dict[str, Stored], definition: Definition, name: str) -> Stored | None:
    """Take a tensor out, by its name in the whole model or in the bare one."""
    bare = _PREFIX + name.removeprefix(_PREFIX).removeprefix(definition.family.prefix)
    return tensors.pop(name, None) or tensors.pop(bare, None)
