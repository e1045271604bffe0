"""Low-rank adapters (LoRA, Hu et al. 2021) beside the matrix products of any family.

An adapted product has two more leaves: `lora_a` (D, R) and `lora_b` (R, F), with the layers in front where the kernel
has them. It adds scale x (hidden A) B, and never makes A B, which would have a gradient of the kernel's size. B begins
at zero: before the first update the model is its base.

D inputs · F features, flattened · R rank · N stacked layers
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from codex_jax import config, trees
from codex_jax.errors import ConfigError
from codex_jax.models.build import Definition
from codex_jax.models.layers import Adapter, Dense


LEAVES = r"/lora_[ab]$"
# Where adapter.targets says nothing: what the paper adapts; GPT-2 has both in one product.
TARGETS = (r"attention/(qkv|query|value)$",)


def adapted(definition: Definition, adapter: config.Adapter) -> Definition:
    """Return a model with adapters at its products that `adapter.targets` names; itself when the rank is 0.

    ConfigError for a pattern that matches no product, with those there are.
    """
    if not adapter.rank:
        return definition
    module = nnx.merge(definition.graphdef, definition.abstract)
    how = Adapter(scale(adapter), adapter.dropout)
    for name in targets(definition, adapter):
        dense = _dense(module, name)
        *stack, inputs = dense.kernel.shape[: -len(dense.features)]
        dense.adapter = how
        dense.lora_a = _leaf(*stack, inputs, adapter.rank)
        dense.lora_b = _leaf(*stack, adapter.rank, math.prod(dense.features))
    graphdef, state = nnx.split(module)
    return definition._replace(graphdef=graphdef, abstract=nnx.to_pure_dict(state))


def scale(adapter: config.Adapter) -> float:
    """Return what multiplies (hidden A) B: alpha / rank, with rsLoRA (Kalajdzievski 2023) alpha / sqrt(rank)."""
    return adapter.alpha / (math.sqrt(adapter.rank) if adapter.rslora else adapter.rank)


def targets(definition: Definition, adapter: config.Adapter) -> list[str]:
    """Return the names of the products that are adapted, as in `blocks/attention/query`."""
    names = products(definition)
    unfound = [one for one in adapter.targets if not any(re.search(one, name) for name in names)]
    if unfound:
        there = ", ".join(names)
        raise ConfigError(config.listing([f"adapter.targets={one} matches none of {there}" for one in unfound]))
    return [name for name in names if any(re.search(one, name) for one in adapter.targets or TARGETS)]


def products(definition: Definition) -> list[str]:
    """Return the names of all products that can be adapted."""
    leaves = [name for name, _ in trees.named_leaves(definition.abstract)]
    return [name.removesuffix("/kernel") for name in leaves if name.endswith("/kernel")]


def initial(abstract: Mapping[str, Any], key: jax.Array) -> dict[str, Any]:
    """Return fresh adapters for the leaves of an adapted model; meant to be called under jit.

    A is uniform in +-1/sqrt(D), as PEFT has it, B zero.
    """
    _, adapters = split(abstract)
    count = iter(range(len(jax.tree.leaves(adapters))))

    def make(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        own = jax.random.fold_in(key, next(count))
        if trees.name(path).endswith("lora_b"):
            return jnp.zeros(leaf.shape)
        bound = 1.0 / math.sqrt(leaf.shape[-2])
        return jax.random.uniform(own, leaf.shape, minval=-bound, maxval=bound)

    return jax.tree_util.tree_map_with_path(make, adapters)


def split(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the base and the adapters of parameters."""
    is_base = jax.tree_util.tree_map_with_path(lambda path, _: not re.search(LEAVES, trees.name(path)), parameters)
    return trees.split(parameters, is_base)


def merged(parameters: Mapping[str, Any], adapter: config.Adapter) -> dict[str, Any]:
    """Return the parameters of a model without adapters that computes the same: scale x A B is in the kernels."""
    if "lora_a" in parameters:
        delta = jnp.matmul(parameters["lora_a"], parameters["lora_b"], precision="highest") * scale(adapter)
        rest = {name: leaf for name, leaf in parameters.items() if not name.startswith("lora_")}
        return {**rest, "kernel": rest["kernel"] + delta.reshape(rest["kernel"].shape)}
    return {name: merged(node, adapter) if isinstance(node, Mapping) else node for name, node in parameters.items()}


def _leaf(*shape: int) -> nnx.Param[Any]:
    without_values: Any = jax.ShapeDtypeStruct(shape, jnp.float32)
    return nnx.Param(without_values)


def _dense(module: Any, name: str) -> Dense:
    found = functools.reduce(getattr, name.split("/"), module)
    assert isinstance(found, Dense), f"{name} has a kernel and is no Dense"
    return found
