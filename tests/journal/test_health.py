"""Updates that are left out are counted up to a limit; a loss that jumps is written down, or sends the run back."""

import dataclasses
import math
from pathlib import Path

import pytest

from codex_jax import config
from codex_jax.errors import TrainingStopped
from codex_jax.journal import health
from codex_jax.journal.health import GoBack, Health
from codex_jax.journal.totals import Totals
from codex_jax.tracking import ledger
from codex_jax.tracking.writer import Writer


pytestmark = pytest.mark.infra

BASE = dataclasses.replace(config.Train(), spike_factor=4.0, spike_window=4)
CALM = [2.0, 2.1, 1.9, 2.0]


def events(workdir: Path, name: str) -> list[dict[str, object]]:
    return [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"] == name]


def judged(writer: Writer, train: config.Train, losses: list[float], rewinds: list[list[int]] | None = None) -> Totals:
    """Judge losses, of which batch n is that of step n + 1."""
    totals = Totals()
    judge = Health(writer, train, totals, rewinds or [])
    for number, loss in enumerate(losses):
        judge.judge(number + 1, number, loss)
    return totals


def test_first_update_that_is_not_finite_stops_by_default(writer: Writer) -> None:
    with pytest.raises(TrainingStopped, match=r"step 7 was not applied: its loss is nan.*set train.max_nonfinite=1"):
        Health(writer, config.Train(), Totals(), []).left_out(7, math.nan, 1.0)


def test_updates_are_left_out_up_to_the_limit_over_the_whole_run(writer: Writer, tmp_path: Path) -> None:
    train, totals = dataclasses.replace(BASE, max_nonfinite=2), Totals(nonfinite=1)
    judge = Health(writer, train, totals, [])
    judge.left_out(3, 1.5, math.inf)
    assert totals.nonfinite == 2
    with pytest.raises(TrainingStopped, match=r"2 were left out before it.*set train.max_nonfinite=3"):
        judge.left_out(4, math.nan, math.nan)
    (event,) = events(tmp_path, "step.skipped")
    assert (event["step"], event["loss"], event["grad_norm"]) == (3, 1.5, None)


def test_spike_is_only_written_down_without_rewinds(writer: Writer, tmp_path: Path) -> None:
    totals = judged(writer, BASE, [*CALM, 9.0, 2.0])
    (event,) = events(tmp_path, "step.spike")
    assert (event["step"], event["loss"], event["mean"]) == (5, 9.0, 2.0)
    assert totals.losses == [2.1, 1.9, 2.0, 9.0, 2.0][1:]


@pytest.mark.parametrize("losses", [[*CALM, 2.28], [9.0, 2.0, 2.0], [2.0, 9.0, 2.0, 9.0, 14.0]])
def test_what_the_losses_before_it_do_not_rule_out_is_no_spike(
    writer: Writer, tmp_path: Path, losses: list[float]
) -> None:
    judged(writer, BASE, losses)
    assert events(tmp_path, "step.spike") == []


def test_no_loss_is_kept_where_none_is_a_spike(writer: Writer) -> None:
    assert judged(writer, config.Train(), CALM).losses == []


def test_spike_sends_the_run_back_and_names_the_batches_to_leave_out(writer: Writer, tmp_path: Path) -> None:
    with pytest.raises(GoBack):
        judged(writer, dataclasses.replace(BASE, max_rewinds=1, spike_batches=2), [*CALM, 9.0])
    assert health.rewinds(tmp_path) == [[3, 4]]
    judge = Health(writer, BASE, Totals(), [[3, 4]])
    assert [batch for batch in range(8) if judge.is_left_out(batch)] == [3, 4]


def test_spike_in_a_run_that_went_back_as_often_as_it_may_stops_it(writer: Writer) -> None:
    with pytest.raises(TrainingStopped, match=r"step 5: its loss of 9.0000 is a spike above 2.0000 .*max_rewinds=1"):
        judged(writer, dataclasses.replace(BASE, max_rewinds=1), [*CALM, 9.0], [[0, 0]])


def test_no_run_went_back_where_there_is_no_ledger(tmp_path: Path) -> None:
    assert health.rewinds(tmp_path / "nothing") == []


def test_value_that_is_not_finite_is_never_better(writer: Writer) -> None:
    totals = Totals()
    judge = Health(writer, BASE, totals, [])
    better = [judge.is_better(value, "min") for value in (3.0, 2.0, math.nan, 2.0, -math.inf, 1.0)]
    assert better == [True, True, False, False, False, True]
    assert (totals.best, totals.evaluations_since_best) == (1.0, 0)
    assert [Health(writer, BASE, Totals(best=1.0), []).is_better(value, "max") for value in (0.5, 1.5)] == [False, True]
