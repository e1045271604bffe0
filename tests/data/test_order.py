"""The order of an epoch: every unit once, in another order for another seed, epoch or corpus."""

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from codex_jax.data.order import Order, permuted


pytestmark = pytest.mark.data


@pytest.mark.parametrize("size", [*range(1, 40), 64, 65, 255, 256, 257, 1000, 4097])
def test_permutation_has_every_number_once(size: int) -> None:
    assert sorted(permuted(place, size, ("a", 1)) for place in range(size)) == list(range(size))


def test_permutation_looks_like_chance() -> None:
    orders = [[permuted(place, 1000, ("a", seed)) for place in range(1000)] for seed in range(20)]
    assert len({tuple(order) for order in orders}) == 20
    # Both are 1 on average, with a standard deviation of 1: over 20 orders 20, give or take 4.5.
    assert sum(place == number for order in orders for place, number in enumerate(order)) < 45
    # A step between neighbours comes 20 times at the most on average, give or take 4.5; the largest of 2,000 is 36.
    steps = Counter(after - before for order in orders for before, after in itertools.pairwise(order))
    assert max(steps.values()) < 60
    # A shuffle spreads the first half evenly over both halves: 250, give or take 8.
    assert all(210 < sum(number < 500 for number in order[:500]) < 290 for order in orders)


def test_place_of_an_enormous_corpus_is_known_at_once() -> None:
    assert 0 <= permuted(10**15, 10**16 + 1, ("a",)) <= 10**16


def test_windows_share_out_the_units_of_every_epoch_in_its_own_order() -> None:
    order = Order(100, 7, 0)
    epochs = [[unit for window in range(7) for unit in order.units(epoch, window)] for epoch in range(3)]
    assert all(sorted(units) == list(range(100)) for units in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert order._replace(seed=1).units(0, 0) != order.units(0, 0)


def test_order_needs_no_jax() -> None:
    program = "import sys; from codex_jax.data.order import Order; Order(9, 2, 0).units(0, 0)"
    program += "; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
