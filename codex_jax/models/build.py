"""From the model section of the config to a graph definition and the shapes of its parameters."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from codex_jax import config
from codex_jax.models import attention
from codex_jax.models.decoder import Decoder
from codex_jax.models.families import gpt2
from codex_jax.registry import Registry


FAMILIES: Registry[Any] = Registry("codex_jax.models")
FAMILIES.register("gpt2", gpt2.build, source=gpt2.__name__)


class Definition(NamedTuple):
    """A model without its values: what is closed over by jitted functions."""

    graphdef: nnx.GraphDef[Decoder]
    abstract: dict[str, Any]
    """nested dict of ShapeDtypeStruct"""

    def bind(self, parameters: dict[str, Any]) -> Decoder:
        """Return the module with these values; free at run time, it acts while tracing."""
        return nnx.merge(self.graphdef, parameters)


def define(model: config.Model) -> Definition:
    """Build the configured family without allocating anything; ConfigError when it cannot run on these devices."""
    dtype = compute_dtype(model.compute_dtype)
    attention.pick(model.attention, model.width // model.num_heads, model.context_length, dtype)
    make = functools.partial(FAMILIES.get(model.name), model, dtype)
    module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    graphdef, state = nnx.split(module)
    return Definition(graphdef, nnx.to_pure_dict(state))


def initial(model: config.Model, key: jax.Array) -> dict[str, Any]:
    """Return freshly initialised parameters as a nested dict; meant to be called under jit."""
    make = FAMILIES.get(model.name)
    return nnx.to_pure_dict(nnx.state(make(model, compute_dtype(model.compute_dtype), nnx.Rngs(params=key))))


def with_compute_dtype(settings: config.Config) -> config.Config:
    """Return the settings with model.compute_dtype decided, so that what is recorded is what was computed."""
    decided = compute_dtype(settings.model.compute_dtype).name
    return dataclasses.replace(settings, model=dataclasses.replace(settings.model, compute_dtype=decided))


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
