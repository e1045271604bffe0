"""Every attention kernel against the definition, written out position by position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codex_jax.errors import ConfigError
from codex_jax.models import attention


pytestmark = pytest.mark.model


def example(length: int, head_dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, length, 3, head_dim)).astype(np.float32) for _ in range(3))
    segments = np.sort(rng.integers(1, 4, (2, length)), axis=1).astype(np.int32)
    return query, key, value, segments


def by_definition(
    query_BLHK: np.ndarray, key_BMHK: np.ndarray, value_BMHK: np.ndarray, segments_BL: np.ndarray
) -> np.ndarray:
    read_BLHK = np.zeros_like(query_BLHK)
    batch, length, heads, head_dim = query_BLHK.shape
    for b, i, h in np.ndindex(batch, length, heads):
        seen = [j for j in range(i + 1) if segments_BL[b, j] == segments_BL[b, i]]
        scores = key_BMHK[b, seen, h] @ query_BLHK[b, i, h] / np.sqrt(head_dim)
        weights = np.exp(scores - scores.max())
        read_BLHK[b, i, h] = weights / weights.sum() @ value_BMHK[b, seen, h]
    return read_BLHK


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_xla_kernel_is_causal_attention_inside_segments(dtype: str, atol: float) -> None:
    arrays = example(17, 8)
    read = attention.attend(*map(jnp.asarray, arrays), dtype=jnp.dtype(dtype), implementation="xla")
    np.testing.assert_allclose(read, by_definition(*arrays), atol=atol)


@pytest.mark.gpu
def test_cudnn_kernel_and_its_gradient_equal_xla() -> None:
    arrays = tuple(map(jnp.asarray, example(128, 64)))

    def total(implementation: str, query: jax.Array) -> jax.Array:
        read = attention.attend(query, *arrays[1:], dtype=jnp.dtype("bfloat16"), implementation=implementation)
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
