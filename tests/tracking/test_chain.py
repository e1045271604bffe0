"""Events that are lost show: in the middle by the chain, at the end by the head that a checkpoint keeps."""

from pathlib import Path
from typing import Any

import pytest

from codex_jax.errors import AssetError
from codex_jax.tracking import ledger
from codex_jax.tracking.ledger import EVENTS, Ledger


pytestmark = pytest.mark.infra

Meta = dict[str, Any]


def write(workdir: Path, first: int, last: int, saved: dict[int, Meta]) -> None:
    """Open the ledger at the step before `first`, write up to `last` and note what each checkpoint would keep."""
    book = Ledger(workdir, run_id="r1", resume_step=first - 1)
    if first > 1:
        book.event("run.resumed", first - 1, {"from_step": first - 1})
    else:
        book.event("run.started", 0, {})
    for step in range(first, last + 1):
        book.event("data.report", step, {"read": step})
        saved[step] = {"events": book.sync()._asdict()}
        book.event(ledger.SAVED, step, {"bytes": step})
    book.close()


def cut(workdir: Path, lines: int) -> None:
    path = workdir / EVENTS
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))


@pytest.fixture
def saved(tmp_path: Path) -> dict[int, Meta]:
    """What the checkpoints of a run of five steps keep: before each is another event than the checkpoint's own."""
    found: dict[int, Meta] = {}
    write(tmp_path, 1, 5, found)
    return found


def test_events_after_the_head_may_be_lost_and_those_up_to_it_may_not(saved: dict[int, Meta], tmp_path: Path) -> None:
    assert [meta["events"]["number"] for meta in saved.values()] == [2, 4, 6, 8, 10]
    for lines in (11, 10):
        cut(tmp_path, lines)
        ledger.refuse_lost_events(tmp_path, 5, saved[5])
    cut(tmp_path, 9)
    before = (tmp_path / EVENTS).read_bytes()
    head = saved[5]["events"]["chain"]
    with pytest.raises(AssetError, match=f"checkpoint 5 was saved after event 10, .*{head}, .* the 9 that are there"):
        ledger.refuse_lost_events(tmp_path, 5, saved[5])
    assert (tmp_path / EVENTS).read_bytes() == before
    ledger.refuse_lost_events(tmp_path, 4, saved[4])


@pytest.mark.parametrize("lines", [10, 9])
def test_torn_line_is_lost_only_if_the_head_was_whole(saved: dict[int, Meta], tmp_path: Path, lines: int) -> None:
    cut(tmp_path, lines)
    with open(tmp_path / EVENTS, "ab") as file:
        file.write(b'{"run_id":"r1","ste')
    if lines == 10:
        ledger.refuse_lost_events(tmp_path, 5, saved[5])
        write(tmp_path, 6, 7, saved)
        ledger.refuse_lost_events(tmp_path, 7, saved[7])
    else:
        with pytest.raises(AssetError, match="has lost events"):
            ledger.refuse_lost_events(tmp_path, 5, saved[5])


def test_other_events_of_the_same_number_are_not_those(saved: dict[int, Meta], tmp_path: Path) -> None:
    cut(tmp_path, 0)
    write(tmp_path, 1, 5, {})  # at another time
    with pytest.raises(AssetError, match="has lost events"):
        ledger.refuse_lost_events(tmp_path, 5, saved[5])


def test_runs_go_on_again_and_again_from_any_checkpoint(saved: dict[int, Meta], tmp_path: Path) -> None:
    for start in (3, 3, 4, 2, 5):
        ledger.refuse_lost_events(tmp_path, start, saved[start])
        write(tmp_path, start + 1, 6, saved)
    assert [step for step in saved if ledger.lost_events(tmp_path / EVENTS, step, saved[step])] == []


def test_events_that_were_moved_away_are_asked_for_no_more_and_their_successors_are(
    saved: dict[int, Meta], tmp_path: Path
) -> None:
    (tmp_path / EVENTS).unlink()
    ledger.refuse_lost_events(tmp_path, 5, saved[5])
    write(tmp_path, 6, 7, saved)
    for step in (5, 6, 7):
        ledger.refuse_lost_events(tmp_path, step, saved[step])
    cut(tmp_path, 2)
    ledger.refuse_lost_events(tmp_path, 5, saved[5])
    with pytest.raises(AssetError, match="checkpoint 7 was saved after event 4"):
        ledger.refuse_lost_events(tmp_path, 7, saved[7])


def test_checkpoint_of_an_older_version_keeps_no_head(saved: dict[int, Meta], tmp_path: Path) -> None:
    cut(tmp_path, 1)
    ledger.refuse_lost_events(tmp_path, 5, {"run_id": "r1"})
