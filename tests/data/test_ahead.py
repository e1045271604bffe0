"""Items made ahead by a thread: in order, no more than asked for, given up and taken later, left behind when stuck."""

import threading
import time

import pytest

from codex_jax.data.ahead import Ahead, Made


pytestmark = pytest.mark.infra


class Counter:
    """Counts; hangs before the item that `stuck_at` names until it is released, and fails after the last."""

    def __init__(self, stuck_at: int = -1, last: int = 1000) -> None:
        self.made, self.released = 0, threading.Event()
        self._stuck_at, self._last = stuck_at, last

    def __next__(self) -> int:
        if self.made == self._stuck_at:
            self.released.wait()
        if self.made > self._last:
            raise ValueError("no more")
        self.made += 1
        return self.made - 1

    def get_state(self) -> dict[str, int]:
        return {"next": self.made}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_items_come_in_order_with_their_positions_and_no_more_are_made(count: int) -> None:
    source = Counter()
    ahead = Ahead(source, count)
    assert source.made == 0
    for number in range(5):
        assert ahead.get(20.0) == Made(number, {"next": number + 1})
    deadline = time.monotonic() + 20
    while source.made < 5 + count and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert source.made == 5 + count
    assert ahead.close(20.0)


def test_wait_that_was_given_up_is_taken_up_again() -> None:
    source = Counter(stuck_at=1)
    ahead = Ahead(source, 0)
    assert ahead.get(20.0) == Made(0, {"next": 1})
    assert [ahead.get(0.05), ahead.get(0.05)] == [None, None]
    assert not ahead.close(0.05)
    source.released.set()


def test_item_asked_for_several_times_is_made_once() -> None:
    source = Counter(stuck_at=0)
    ahead = Ahead(source, 0)
    assert [ahead.get(0.05), ahead.get(0.05)] == [None, None]
    source.released.set()
    assert ahead.get(20.0) == Made(0, {"next": 1})
    time.sleep(0.1)
    assert source.made == 1 and ahead.close(20.0)


def test_error_of_the_source_comes_in_its_place() -> None:
    ahead = Ahead(Counter(last=0), 2)
    assert ahead.get(20.0) == Made(0, {"next": 1})
    with pytest.raises(ValueError, match="no more"):
        ahead.get(20.0)
    assert ahead.close(20.0)
