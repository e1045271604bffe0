"""The layers every architecture is built from: matrix product, embedding, norm, dropout.

Types are decided here and in `products`: parameters, activations, softmax and sums are float32; only the operands of
matrix products are cast to the compute dtype, and on accelerators what goes from one product to the next.

B batch · L query length · D model · F features of a product
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from codex_jax.models import codes, lookup, products
from codex_jax.models.codes import Coded


@dataclasses.dataclass(frozen=True)
class Adapter:
    """How a product uses its adapter, see `lora`."""

    scale: float
    dropout: float


class DropoutKey(nnx.Variable[jax.Array]):
    """The key of an adapter's dropout, which a model has while it is trained: it is no parameter."""


class Dense(nnx.Module):
    """A product with a kernel over the last axis, plus a bias if it has one: (..., D) -> (..., F).

    `features` may be several axes, e.g. (3, D) for the query, key and value of attention. `lora.adapted` may add a
    product of low rank beside it, `quantize.quantized` may keep the kernel in few bits.

    `is_writing`: hidden has few rows and no gradient is asked for. `is_turned`: the kernel is then given as (F, D), as
    `products.turned` makes it.
    """

    codes: nnx.Param[jax.Array]
    scales: nnx.Param[jax.Array]
    lora_a: nnx.Param[jax.Array]
    lora_b: nnx.Param[jax.Array]
    dropout_key: DropoutKey

    def __init__(
        self, inputs: int, features: tuple[int, ...], *, bias: bool, stddev: float, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.dtype, self.inputs, self.features = dtype, inputs, features
        self.is_coded = self.is_writing = self.is_turned = False
        self.adapter: Adapter | None = None
        self.kernel = nnx.Param(stddev * jax.random.normal(rngs.params(), (inputs, *features)))
        self.bias = nnx.Param(jnp.zeros(features)) if bias else None

    def __call__(self, hidden: jax.Array) -> jax.Array:
        if self.is_coded or not self.is_writing:
            flat = products.dense(hidden, self._kernel(), self.dtype)
        elif self.is_turned:
            flat = products.by_rows(hidden, self.kernel[...], self.dtype, products.passed_on(self.dtype))
        else:
            flat = products.few_rows(hidden, self._kernel(), self.dtype, products.passed_on(self.dtype))
        if self.adapter is not None:
            flat = flat + self._adapted(hidden, self.adapter)
        product = flat.reshape(*hidden.shape[:-1], *self.features)
        return product if self.bias is None else product + jnp.broadcast_to(self.bias[...], product.shape)

    def _kernel(self) -> jax.Array:
        if self.is_coded:  # never changes: no gradient is taken by what it was decoded from
            return codes.decode(Coded(self.codes[...], self.scales[...]), self.inputs, self.dtype)
        return self.kernel[...].reshape(self.inputs, -1)

    def _adapted(self, hidden: jax.Array, adapter: Adapter) -> jax.Array:
        key = self.dropout_key[...] if hasattr(self, "dropout_key") else None
        low = products.dense(dropout(hidden, adapter.dropout, key), self.lora_a[...], self.dtype)
        return products.dense(adapter.scale * low, self.lora_b[...], self.dtype)


def give_keys(module: nnx.Module, key: jax.Array) -> None:
    """Give each adapter with dropout in a module a key of its own, and one for each layer where it is stacked."""
    # Beside the numbers by which a model splits the same key, so that no two masks are drawn by one.
    key = jax.random.fold_in(key, 0xFFFFFFFF)
    found = {path: part for path, part in nnx.iter_modules(module) if isinstance(part, Dense)}
    for number, path in enumerate(sorted(found, key=str)):
        dense = found[path]
        if dense.adapter is not None and dense.adapter.dropout:
            own = jax.random.fold_in(key, number)
            dense.dropout_key = DropoutKey(jax.random.split(own, dense.lora_a.shape[:-2]))


class Embedding(nnx.Module):
    """A table of rows looked up by index: (...,) int32 -> (..., D)."""

    def __init__(self, rows: int, width: int, *, stddev: float, rngs: nnx.Rngs):
        self.embedding = nnx.Param(stddev * jax.random.normal(rngs.params(), (rows, width)))

    def __call__(self, indices: jax.Array) -> jax.Array:
        return lookup.look_up(self.embedding[...], indices)


class Norm(nnx.Module):
    """Normalisation over the last axis, in float32.

    `kind`: layer (Ba et al. 2016), rms (Zhang and Sennrich 2019), or rms_plus_one, whose scale is kept less one.
    """

    def __init__(self, kind: str, width: int, *, epsilon: float):
        self.kind, self.epsilon = kind, epsilon
        self.scale = nnx.Param(jnp.zeros(width) if kind == "rms_plus_one" else jnp.ones(width))
        if kind == "layer":
            self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, hidden: jax.Array) -> jax.Array:
        centred = hidden.astype(jnp.float32)
        if self.kind == "layer":
            centred = hidden - jnp.mean(hidden, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + self.epsilon)
        alike = (1,) * (hidden.ndim - 1) + (-1,)
        scale = self.scale[...].reshape(alike)
        if self.kind == "layer":
            return normal * scale + self.bias[...].reshape(alike)
        return normal * (1.0 + scale if self.kind == "rms_plus_one" else scale)


def activate(name: str, inner: jax.Array) -> jax.Array:
    """Apply gelu, gelu_tanh (Hendrycks and Gimpel 2016) or silu (Elfwing et al. 2017), element by element."""
    return jax.nn.silu(inner) if name == "silu" else jax.nn.gelu(inner, approximate=name == "gelu_tanh")


def dropout(hidden: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero a share `rate` of the elements and scale the rest; the identity without a key."""
    if key is None or rate == 0.0:
        return hidden
    kept = jax.random.bernoulli(key, 1.0 - rate, hidden.shape)
    return jnp.where(kept, hidden / (1.0 - rate), 0.0)
