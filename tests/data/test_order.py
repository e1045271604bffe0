"""The order of an epoch: every unit once, in another order for another seed, epoch or corpus."""

import itertools
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from codex_jax.data.order import Size, make_order, permuted


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
    order = make_order([Size(100, 700, Fraction(700))], 100, seed=0)
    assert order.num_windows == 7
    epochs = [[unit for window in range(7 * n, 7 * n + 7) for unit in order.units(window)[0]] for n in range(3)]
    assert all(sorted(units) == list(range(100)) for units in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert order._replace(seed=1).units(0) != order.units(0)


def test_sources_without_weights_are_each_read_once_in_an_epoch() -> None:
    sizes = [Size(30, 3000, Fraction(3000)), Size(500, 10_000, Fraction(10_000))]
    order = make_order(sizes, 1000, seed=0)
    windows = [order.units(number) for number in range(order.num_windows)]
    for corpus, size in enumerate(sizes):
        assert sorted(unit for window in windows for unit in window[corpus]) == list(range(size.num_units))
    assert {len(window[1]) for window in windows} <= {38, 39}  # 500 units over 13 windows: evenly


def test_weights_are_shares_of_the_bytes_and_the_longest_source_is_read_once() -> None:
    sizes = [Size(1000, 100_000, Fraction(7, 10)), Size(40, 2000, Fraction(3, 10))]
    order = make_order(sizes, 5000, seed=3)
    windows = [order.units(number) for number in range(order.num_windows)]
    read = [[unit for window in windows for unit in window[corpus]] for corpus in range(2)]
    assert sorted(read[0]) == list(range(1000))
    large, small = 100 * len(read[0]), 50 * len(read[1])
    assert small / (large + small) == pytest.approx(0.3, abs=0.001)
    assert min(Counter(read[1]).values()) == 21  # 42,857 of 2,000 bytes: 21.4 times


def test_order_needs_no_jax() -> None:
    program = "import sys; from codex_jax.data.order import Order; Order((9,), (4,), 2, 0, (None,)).units(0)"
    program += "; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
