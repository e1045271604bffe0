"""What is said of layers: true on eight devices that share every leaf, and free when nobody asks."""

import jax
import numpy as np
import pytest
from small_step import ALL_AXES, SMOOTH, batch_of, prepare, with_train

from codex_jax import sharding, trees
from codex_jax.training import layers
from codex_jax.training.layers import Layers, Spread


pytestmark = pytest.mark.model


def test_norms_and_histograms_are_those_of_the_arrays() -> None:
    made = prepare(with_train(SMOOTH, freeze_layers=1), ALL_AXES)
    state = made.initial()
    found = jax.device_get(made.program.look(state, {}, sharding.place(batch_of(0), made.mesh)))
    norms, spread = layers.norms(found), {name: rest for name, *rest in layers.histograms(found)}
    for name, leaf in trees.named_leaves(jax.device_get(state.parameters)):
        for index, one in enumerate(leaf if name.startswith("blocks/") else [leaf]):
            full = name.replace("blocks/", f"blocks/{index}/")
            assert norms[f"weight_norm/{full}"] == pytest.approx(float(np.linalg.norm(one.ravel())), rel=1e-5)
        edges, counts = spread[f"weights/{name}"]
        if leaf.min() < leaf.max():
            assert (edges[0], edges[-1]) == (leaf.min(), leaf.max())
            # A number at the edge of two bins may be in either.
            assert np.abs(np.array(counts) - np.histogram(leaf, edges)[0]).sum() <= 2 + leaf.size // 1000
        assert sum(counts) == leaf.size
    _, output = made.update(state, batch_of(0), 0)
    of_gradients = {name: value for name, value in norms.items() if name.startswith("grad_norm/")}
    assert np.linalg.norm(list(of_gradients.values())) == pytest.approx(float(output.grad_norm), rel=1e-5)
    assert all((value == 0) == ("blocks/0/" in name) for name, value in of_gradients.items())


def test_a_leaf_that_is_not_finite_has_no_histogram() -> None:
    whole = Spread(np.float32(0), np.float32(1), np.ones(layers.BINS, np.int32))
    broken = whole._replace(high=np.float32("nan"))
    found = layers.histograms(Layers({}, {}, {"a": whole, "b": broken}))
    assert [name for name, *_ in found] == ["weights/a"]
