"""Every attention kernel against the definition, written out position by position."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codex_jax.errors import ConfigError
from codex_jax.models import attention
from codex_jax.models.attention import Sight


pytestmark = pytest.mark.model


def example(length: int, head_dim: int, groups: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    query, key, value = (
        rng.standard_normal((2, length, heads, head_dim)).astype(np.float32) for heads in (4, groups, groups)
    )
    segments = np.sort(rng.integers(1, 4, (2, length)), axis=1).astype(np.int32)
    return query, key, value, segments


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, segments: jax.Array, kernel: str = "xla", **options: Any
) -> jax.Array:
    sight = Sight(segments, segments, options.pop("places", None), options.pop("causal", True))
    dtype = jnp.dtype(options.pop("dtype", "float32"))
    return attention.attend(query, key, value, sight, scale=0.3, dtype=dtype, implementation=kernel, **options)


def by_definition(
    query_BLHK: np.ndarray,
    key_BMGK: np.ndarray,
    value_BMGK: np.ndarray,
    segments_BL: np.ndarray,
    *,
    window: int = 0,
    causal: bool = True,
) -> np.ndarray:
    read_BLHK = np.zeros_like(query_BLHK)
    batch, length, heads, _ = query_BLHK.shape
    for b, i, h in np.ndindex(batch, length, heads):
        group = h * key_BMGK.shape[2] // heads
        first = max(0, i - window + 1) if window else 0
        seen = [j for j in range(first, i + 1 if causal else length) if segments_BL[b, j] == segments_BL[b, i]]
        scores = 0.3 * key_BMGK[b, seen, group] @ query_BLHK[b, i, h]
        weights = np.exp(scores - scores.max())
        read_BLHK[b, i, h] = weights / weights.sum() @ value_BMGK[b, seen, group]
    return read_BLHK


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_xla_kernel_is_causal_attention_inside_segments(dtype: str, atol: float, groups: int) -> None:
    arrays = example(17, 8, groups)
    read = attend(*map(jnp.asarray, arrays), dtype=dtype)
    np.testing.assert_allclose(read, by_definition(*arrays), atol=atol)


@pytest.mark.parametrize("window", [1, 5, 100])
def test_a_window_ends_what_is_seen_whether_it_is_known_to_the_compiler_or_not(window: int) -> None:
    arrays = example(17, 8, 2)
    expected = by_definition(*arrays, window=window)
    np.testing.assert_allclose(attend(*map(jnp.asarray, arrays), window=window), expected, atol=1e-5)
    np.testing.assert_allclose(attend(*map(jnp.asarray, arrays), window=jnp.array(window)), expected, atol=1e-5)


def test_without_causality_both_sides_are_seen() -> None:
    arrays = example(9, 8)
    read = attend(*map(jnp.asarray, arrays), causal=False)
    np.testing.assert_allclose(read, by_definition(*arrays, causal=False), atol=1e-5)


def test_queries_at_places_of_their_own_read_what_they_read_among_all() -> None:
    query, key, value, segments = map(jnp.asarray, example(17, 8, 2))
    whole = attend(query, key, value, segments, window=6)
    sight = Sight(segments[:, 11:14], segments, jnp.arange(11, 14))
    some = attention.attend(
        query[:, 11:14], key, value, sight, window=6, scale=0.3, dtype=jnp.dtype("float32"), implementation="auto"
    )
    np.testing.assert_allclose(some, whole[:, 11:14], atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize(("groups", "window"), [(4, 0), (2, 0), (2, 40)])
def test_cudnn_kernel_and_its_gradient_equal_xla(groups: int, window: int) -> None:
    arrays = tuple(map(jnp.asarray, example(128, 64, groups)))

    def total(kernel: str, query: jax.Array) -> jax.Array:
        read = attend(query, *arrays[1:], dtype="bfloat16", kernel=kernel, window=window)
        return jnp.sum(read * arrays[0])

    for one, other in zip(
        jax.value_and_grad(lambda query: total("cudnn", query))(arrays[0]),
        jax.value_and_grad(lambda query: total("xla", query))(arrays[0]),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=5e-2, atol=5e-2)


def test_the_fused_kernel_is_refused_by_what_is_missing_and_auto_does_without_it() -> None:
    if jax.default_backend() == "gpu":
        pytest.skip("this is about machines without a GPU")
    assert attention.pick("auto", 64, 128, jnp.dtype("bfloat16")) == "xla"
    with pytest.raises(ConfigError, match="an NVIDIA GPU, heads of at most 128, a multiple of 8, an even length;"):
        attention.pick("cudnn", 100, 17, jnp.dtype("bfloat16"))
