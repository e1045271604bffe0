"""From the model section of the config to a graph definition and the shapes of its parameters."""

import contextlib
import dataclasses
import json
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from codex_jax import config, trees
from codex_jax.errors import CodexError, ConfigError
from codex_jax.models import attention, catalogue, classes, layers, origin
from codex_jax.models.architecture import Architecture, Treatment
from codex_jax.models.families import bert, gemma3, gpt2, llama, mistral, qwen
from codex_jax.models.families.family import Family
from codex_jax.models.published import Published
from codex_jax.registry import Registry


FAMILIES: Registry[Family] = Registry("codex_jax.models")
for _family in (gpt2.FAMILY, llama.FAMILY, mistral.FAMILY, qwen.QWEN2, qwen.QWEN3, gemma3.FAMILY, bert.FAMILY):
    FAMILIES.register(_family.name, _family, source=_family.read.__module__)


class Definition(NamedTuple):
    """A model without its values: what is closed over by jitted functions."""

    family: Family
    shape: Architecture
    published: dict[str, Any]
    """the config.json it was read from"""
    graphdef: nnx.GraphDef[Any]
    abstract: dict[str, Any]
    """nested dict of ShapeDtypeStruct"""
    kernels: Mapping[str, tuple[int, ...]] = types.MappingProxyType({})
    """shapes of the kernels that are kept in few bits, see `quantize`; `abstract` has their codes and scales instead"""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every leaf by its name, of kernels in few bits that of the kernel."""
        coded = {name.removesuffix("kernel") + part for name in self.kernels for part in ("codes", "scales")}
        kept = {name: leaf.shape for name, leaf in trees.named_leaves(self.abstract) if name not in coded}
        return {**kept, **self.kernels}

    @property
    def num_parameters(self) -> int:
        """How many numbers the model has, its adapters among them."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def bind(self, parameters: dict[str, Any], key: jax.Array | None = None) -> Any:
        """Return the module with these values; free at run time, it acts while tracing.

        With a key, its adapters drop what they read; the module has no other dropout but by the key it is called with.
        """
        module = nnx.merge(self.graphdef, parameters)
        if key is not None:
            layers.give_keys(module, key)
        return module


def define(model: config.Model) -> Definition:
    """Build the configured model without allocating anything; ConfigError when it cannot run on these devices."""
    return _defined(model, *described(model))


def without_ending(model: config.Model) -> Definition:
    """Return the definition of an encoder up to its hidden states: heads are neither made nor looked for in weights."""
    family, published, shape = described(model)
    return _defined(model, family, published, dataclasses.replace(shape, ending="") if family.endings else shape)


def _defined(model: config.Model, family: Family, published: dict[str, Any], shape: Architecture) -> Definition:
    how = treatment(model)
    attention.pick(how.attention, shape.head_dim, shape.context_length, how.dtype)
    if shape.num_layers % how.scan_unroll:
        raise ConfigError(f"model.scan_unroll={how.scan_unroll} does not divide the {shape.num_layers} layers")
    module = nnx.eval_shape(lambda: family.make(shape, how, nnx.Rngs(0)))
    graphdef, state = nnx.split(module)
    return Definition(family, shape, published, graphdef, nnx.to_pure_dict(state))


def as_stored(model: config.Model, definition: Definition) -> Definition:
    """Return what a model's weights are read by: their own config.json may say that an encoder ends in something else.

    It has the leaves of both. What the model has beyond the weights begins at random values.
    """
    if not definition.family.endings:
        return definition
    stored = define(dataclasses.replace(model, architecture="", ending=""))
    both = {**stored.abstract, **definition.abstract}
    return definition._replace(shape=stored.shape, published=stored.published, abstract=both)


def initial(model: config.Model, key: jax.Array) -> dict[str, Any]:
    """Return freshly initialised parameters as a nested dict; meant to be called under jit."""
    family, _, shape = described(model)
    return nnx.to_pure_dict(nnx.state(family.make(shape, treatment(model), nnx.Rngs(params=key))))


def described(model: config.Model, labels: Sequence[str] = ()) -> tuple[Family, dict[str, Any], Architecture]:
    """Return the family of a model, its config.json with the sizes of the settings in it, and what that says.

    `labels` are the names of the classes, where they are not those in it. Raises ConfigError for settings that
    contradict it, AssetError for one that cannot be read.
    """
    values, place = origin.published(model)
    family = FAMILIES.get(Published(values, place).word("model_type"))
    sizes = {name: getattr(model, name) for name in _SIZES if getattr(model, name)}
    problems = [
        f"model.{name}={size}: {family.name} has no such size"
        for name, size in sizes.items()
        if name not in family.sizes
    ]
    own: dict[str, Any] = {family.sizes[name]: size for name, size in sizes.items() if name in family.sizes}
    own |= classes.published(labels)
    if model.ending and model.ending not in family.endings:
        problems.append(f"model.ending={model.ending}: {family.name} has no such ending")
    elif model.ending:
        own["architectures"] = [family.endings[model.ending]]
    shape = family.read(Published(values | own, place))
    if origin.weights(model):
        stored = family.read(Published(values, place))
        problems += [
            f"model.{name}={size}, but {place} has {getattr(stored, name)}: leave it out"
            for name, size in sizes.items()
            if name in family.sizes and getattr(stored, name) != size
        ]
        problems += _named_otherwise(model.name, family, stored, place)
    if problems:
        raise ConfigError(config.listing(problems))
    return family, values | own, shape


def _named_otherwise(name: str, family: Family, stored: Architecture, place: str) -> Iterator[str]:
    """Yield what of a model of the catalogue is not so in the weights; their vocabulary may have grown."""
    if not name:
        return
    config = Published(catalogue.entry(name).config, f"the catalogue's {name}")
    if (known := config.word("model_type")) != family.name:
        yield f"model.name={name} is of family {known}, and {place} of family {family.name}: leave one of them out"
        return
    shape = family.read(config)
    for size in ("num_layers", "num_heads", "num_kv_heads", "head_dim", "width", "mlp_width"):
        if getattr(shape, size) != getattr(stored, size):
            yield f"model.name={name} has {size}={getattr(shape, size)}, and {place} {getattr(stored, size)}"


_SIZES = ("vocab_size", "context_length", "num_layers", "num_heads", "num_kv_heads", "head_dim", "width", "mlp_width")


def decided(settings: config.Config) -> config.Config:
    """Return the settings with nothing of the model left open, so that what is recorded is what was computed.

    Raises ConfigError for settings that contradict the model's sizes.
    """
    settings = _labelled(settings)
    family, published, shape = described(settings.model, settings.data.labels)
    weights = origin.weights(settings.model)
    model = dataclasses.replace(
        settings.model,
        weights=str(weights) if weights else "",
        architecture=json.dumps(_least(settings.model.architecture, family, published, shape), sort_keys=True),
        compute_dtype=compute_dtype(settings.model.compute_dtype).name,
        ending=shape.ending if family.endings else "",
        **{name: getattr(shape, name) for name in family.sizes},
    )
    made = dataclasses.replace(settings, model=model)
    config.check(made)
    _check_objective(settings.data.objective, family, shape)
    return made


def _least(given: str, family: Family, published: Mapping[str, Any], shape: Architecture) -> Mapping[str, Any]:
    """Return the config.json that was given, where sizes beside it only repeat what it says; else the whole.

    So settings that were decided once, and are read from a run, are decided alike.
    """
    if not given.lstrip().startswith("{"):
        return published
    values: dict[str, Any] = json.loads(given)
    repeated = published.keys() - values.keys() <= set(family.sizes.values())
    if repeated and all(published.get(name) == values[name] for name in values):
        with contextlib.suppress(CodexError):  # where sizes are missing it says nothing by itself
            if family.read(Published(values, "model.architecture")) == shape:
                return values
    return published


def _labelled(settings: config.Config) -> config.Config:
    """Return the settings with the names of the classes in them; raises what `classes.agreed` does."""
    if settings.data.objective != "classes":
        return settings
    values, place = origin.published(settings.model)
    stored = Published(values, place)
    ends_so = FAMILIES.get(stored.word("model_type")).read(stored).ending == "classes"
    labels = classes.agreed(settings.data.labels, classes.exclusive(stored) if ends_so else (), place)
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, labels=labels))


def _check_objective(objective: str, family: Family, shape: Architecture) -> None:
    """Raise ConfigError when a model is not trained that way."""
    if objective == shape.objective:
        return
    if (objective == "causal") != (not family.endings):
        trained = "masked or classes" if family.endings else "causal"
        raise ConfigError(
            f"data.objective={objective}, but a model of family {family.name} is trained by "
            f"data.objective={trained}: set that, or choose another model"
        )
    ending, head = ("hidden", "hidden tokens") if objective == "masked" else ("classes", "classes")
    raise ConfigError(
        f"data.objective={objective}, but the model ends in {shape.ending} (architectures in its config.json): with "
        f"model.ending={ending} it gets a head for {head}, which begins at random values"
    )


def treatment(model: config.Model) -> Treatment:
    """Return how a model is to be run."""
    return Treatment(
        dropout=model.dropout,
        dtype=compute_dtype(model.compute_dtype),
        attention=model.attention,
        remat=model.remat,
        scan_unroll=model.scan_unroll,
    )


def compute_dtype(name: str) -> jnp.dtype:
    """Return the type of the operands of products; "auto" depends on the machine alone, never on a measurement."""
    if name == "auto":
        fast = jax.default_backend() != "cpu" or _cpu_has_fast_bfloat16()
        name = "bfloat16" if fast else "float32"
    return jnp.dtype(name)


def _cpu_has_fast_bfloat16() -> bool:
    # AVX-512 multiplies bfloat16 fast in every jax we support; where there is AMX too, jax 0.10 uses neither
    # (docs/benchmarks.md).
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().partition("flags")[2].partition("\n")[0].split()) if info.exists() else set()
    return "avx512_bf16" in flags and ("amx_bf16" not in flags or jax.__version_info__ >= (0, 11))
