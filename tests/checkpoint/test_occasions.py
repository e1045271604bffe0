"""Each reason to save is named; a wish is told once, and is fulfilled when its checkpoint is on the disk."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_jax import config
from codex_jax.checkpoint import occasions as occasions_room
from codex_jax.checkpoint.occasions import REQUESTS, Occasions


pytestmark = pytest.mark.infra

Make = Callable[..., Occasions]


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(occasions_room, "time", clock)
    return clock


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Make:
    """Occasions of a run in `tmp_path`, with some settings changed."""

    def made(**changes: object) -> Occasions:
        settings = dataclasses.replace(config.Checkpoint(), every_steps=10, **changes)  # type: ignore[arg-type]
        return Occasions(tmp_path, tmp_path / "checkpoints", settings, lambda decide: decide())

    return made


def why(occasions: Occasions, step: int, loss: float | None = None, request: str = "", **flags: bool) -> str:
    evaluation = None if loss is None else {"loss": loss}
    return occasions.why(step, evaluation, REQUESTS.index(request), **{"ends": False, "stops": False, **flags})


def wish(occasions: Occasions, clock: Clock) -> str:
    """What is asked for when some time has passed."""
    clock.now += 0.6
    return REQUESTS[occasions.request()]


def test_each_reason_has_its_name(make: Make) -> None:
    occasions = make()
    assert why(occasions, 7) == ""
    assert why(occasions, 20) == "steps"
    assert why(occasions, 7, request="time") == "time"
    assert why(occasions, 7, request="asked") == "asked"
    assert why(occasions, 20, request="time", stops=True) == "signal"
    assert why(occasions, 20, ends=True, stops=True) == "end"


def test_evaluation_is_saved_only_if_it_is_among_the_best(make: Make, tmp_path: Path) -> None:
    assert why(make(), 7, loss=0.1) == ""
    best = make(keep_best=1)
    assert why(best, 7, loss=0.1) == "best"
    assert why(best, 7, loss=float("nan")) == ""
    assert why(make(keep_best=1, best_mode="max"), 7, loss=0.1) == "best"


def test_file_is_told_once_and_goes_when_its_checkpoint_is_there(make: Make, clock: Clock, tmp_path: Path) -> None:
    occasions, file = make(), tmp_path / "SAVE"
    assert wish(occasions, clock) == ""
    file.touch()
    assert [wish(occasions, clock), wish(occasions, clock)] == ["asked", ""]
    occasions.acknowledge(6)  # one that was begun before anybody asked
    assert why(occasions, 7, request="asked") == "asked"
    occasions.acknowledge(6)
    assert file.exists() and wish(occasions, clock) == ""
    occasions.acknowledge(7)
    assert not file.exists()
    file.touch()
    assert wish(occasions, clock) == "asked"


def test_time_counts_from_the_last_save_whatever_it_was_for(make: Make, clock: Clock) -> None:
    occasions = make(every_minutes=1 / 60)
    assert why(occasions, 10) == "steps"
    assert wish(occasions, clock) == ""
    assert wish(occasions, clock) == "time"
    assert REQUESTS[occasions.request()] == "", "told once"
