"""Each program that is compiled is counted, whichever thread compiles it; one that is there already is not."""

import threading

import jax
import jax.numpy as jnp
import pytest

from codex_jax.training import compilations


pytestmark = pytest.mark.model


def test_each_compilation_is_counted_once() -> None:
    counted = compilations.counted()
    assert compilations.counted() is counted
    one, other = jnp.ones(3), jnp.ones(5)
    double = jax.jit(lambda array: array * 2 + 12345)
    before, secs = counted.count, counted.secs
    double(one)
    assert counted.count == before + 1 and counted.secs > secs
    double(one)
    assert counted.count == before + 1
    thread = threading.Thread(target=double, args=(other,))  # of another shape
    thread.start()
    thread.join()
    assert counted.count == before + 2
