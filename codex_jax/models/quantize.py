"""A model whose kernels are kept in few bits, to adapt it (QLoRA, Dettmers et al. 2023) or to run it in less memory."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from codex_jax import config, trees
from codex_jax.errors import ConfigError
from codex_jax.models import codes
from codex_jax.models.build import Definition
from codex_jax.models.codes import Coded
from codex_jax.models.layers import Dense


def quantized(definition: Definition, how: config.Quantization) -> Definition:
    """Return a model with the kernels of its blocks that `quantization.targets` names in few bits; itself without.

    ConfigError for a pattern that matches no kernel, with the products there are.
    """
    if not how.mode:
        return definition
    module = nnx.merge(definition.graphdef, definition.abstract)
    kernels = {}
    for name in targets(definition, how):
        dense = functools.reduce(getattr, name.split("/"), module)
        assert isinstance(dense, Dense)
        kernels[f"{name}/kernel"] = dense.kernel.shape
        layers, inputs = dense.kernel.shape[:2]
        one = codes.shapes(inputs, math.prod(dense.kernel.shape[2:]), how.mode)
        dense.codes, dense.scales = (_leaf(layers, part) for part in one)
        dense.is_coded = True
        del dense.kernel
    graphdef, state = nnx.split(module)
    return definition._replace(graphdef=graphdef, abstract=nnx.to_pure_dict(state), kernels=kernels)


def targets(definition: Definition, how: config.Quantization) -> list[str]:
    """Return the names of the products whose kernels are coded, as in `blocks/mlp/up`."""
    names = [name.removesuffix("/kernel") for name in definition.shapes if re.search(r"^blocks/.*/kernel$", name)]
    unfound = [one for one in how.targets if not any(re.search(one, name) for name in names)]
    if unfound:
        there = ", ".join(names)
        raise ConfigError(config.listing([f"quantization.targets={one} matches none of {there}" for one in unfound]))
    return [name for name in names if not how.targets or any(re.search(one, name) for one in how.targets)]


def coded(definition: Definition, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the plain model as those of one in few bits."""
    modes = {name: leaf for name, leaf in trees.named_leaves(definition.abstract) if name.endswith("/codes")}

    def visit(node: Mapping[str, Any], path: str) -> dict[str, Any]:
        made: dict[str, Any] = {
            name: visit(part, f"{path}{name}/") if isinstance(part, Mapping) else part for name, part in node.items()
        }
        if f"{path}codes" in modes:
            kernel = made.pop("kernel")
            flat = kernel.reshape(*kernel.shape[:2], -1)
            mode = codes.mode_of(Coded(modes[f"{path}codes"], modes[f"{path}codes"]))
            made |= jax.vmap(functools.partial(codes.encode, mode=mode))(flat)._asdict()
        return made

    return visit(parameters, "")


def _leaf(layers: int, one: jax.ShapeDtypeStruct) -> nnx.Param[Any]:
    without_values: Any = jax.ShapeDtypeStruct((layers, *one.shape), one.dtype)
    return nnx.Param(without_values)
