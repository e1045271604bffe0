"""The rows of system.ndjson: what is in them, who else gets them, and what a crash or a second process does to them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import small_writer

from codex_jax.errors import AssetError
from codex_jax.tracking import calls, ledger, sampler
from codex_jax.tracking.gpus import OFF
from codex_jax.tracking.sampler import Sampler
from codex_jax.tracking.sink import Sink, Source


pytestmark = pytest.mark.infra


class Kept(Sink):
    """Keeps rows in memory."""

    rows: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, source: Source) -> None:
        self.rows.clear()

    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        self.rows.append((step, split, dict(values), time))

    def text(self, step: int, name: str, text: str, time: float) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self, status: str) -> None:
        pass


@pytest.fixture(autouse=True)
def _without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFF, "1")


def sample(workdir: Path, rows: int, step: Callable[[], int] = lambda: 3) -> None:
    """Let a run stay until there are so many rows, and the last one; a sink keeps what it is given."""
    made = Sampler(workdir, run_id="r1", every_secs=0.1)
    with small_writer.bare(workdir, {"kept": Kept}) as writer, made.during(writer, step):
        while len(written(workdir)) < rows:
            time.sleep(0.01)


def written(workdir: Path) -> list[dict[str, Any]]:
    path = workdir / calls.SYSTEM
    return list(ledger.read(path)) if path.exists() else []


def test_a_row_holds_the_machine_and_the_newest_step(tmp_path: Path) -> None:
    sample(tmp_path, 1)
    row = written(tmp_path)[-1]
    assert (row["run_id"], row["step"]) == ("r1", 3)
    found = row["metrics"]
    assert 0 < found["process_rss_bytes"] < found["memory_used_bytes"] * 2
    assert 0 <= found["cpu_percent"] <= 100 and 0 < found["memory_percent"] <= 100
    assert found["process_cpu_percent"] >= 0 and found["load_1m"] >= 0 and found["disk_free_bytes"] > 0
    assert not any(name.startswith("gpu") or "joules" in name for name in found)


def test_the_copies_have_the_rows_and_the_ledger_has_not(tmp_path: Path) -> None:
    sample(tmp_path, 2)
    rows = written(tmp_path)
    assert len(rows) >= 3  # one more at the end
    assert [(step, split, values) for step, split, values, _ in Kept.rows] == [
        (row["step"], "system", row["metrics"]) for row in rows
    ]
    assert "system" not in (tmp_path / ledger.METRICS).read_text()


def test_a_process_that_goes_on_appends_and_its_copies_have_all(tmp_path: Path) -> None:
    sample(tmp_path, 1)
    before = (tmp_path / calls.SYSTEM).read_bytes()
    sample(tmp_path, len(written(tmp_path)) + 1)
    assert (tmp_path / calls.SYSTEM).read_bytes().startswith(before)
    assert [row[2] for row in Kept.rows] == [row["metrics"] for row in written(tmp_path)]


@pytest.mark.parametrize("torn", [b'{"run_id":"r1","st', b"\xff\n"])
def test_a_torn_last_row_is_taken_back(torn: bytes, tmp_path: Path) -> None:
    sample(tmp_path, 1)
    path = tmp_path / calls.SYSTEM
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    sampler.mend(tmp_path)
    assert path.read_bytes() == whole


def test_damage_before_the_last_row_is_refused(tmp_path: Path) -> None:
    sample(tmp_path, 1)
    path = tmp_path / calls.SYSTEM
    path.write_bytes(b"damaged\n" + path.read_bytes())
    with pytest.raises(AssetError, match=r"system\.ndjson line 1 is damaged"):
        Sampler(tmp_path, run_id="r1", every_secs=1.0)


def test_energy_goes_on_from_the_last_row(tmp_path: Path) -> None:
    rows: Sequence[Mapping[str, float]] = ({"energy_joules": 40.5}, {"cpu_percent": 1.0})
    lines = [f'{{"run_id":"r1","step":1,"time":1,"metrics":{row}}}\n'.replace("'", '"') for row in rows]
    (tmp_path / calls.SYSTEM).write_text("".join(lines))
    assert sampler.mend(tmp_path) == 40.5


def test_switched_off_nothing_is_made(tmp_path: Path) -> None:
    made = Sampler(tmp_path, run_id="r1", every_secs=0.0)
    with small_writer.bare(tmp_path) as writer, made.during(writer, lambda: 0):
        pass
    assert not (tmp_path / calls.SYSTEM).exists()


def test_what_it_cannot_write_ends_the_looking_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Sampler(tmp_path, run_id="r1", every_secs=0.1)
    (tmp_path / calls.SYSTEM).symlink_to("/dev/full")
    with small_writer.bare(tmp_path) as writer, made.during(writer, lambda: 5):
        deadline = time.monotonic() + 60
        while not (events := list(ledger.read(tmp_path / ledger.EVENTS))):
            assert time.monotonic() < deadline, "nothing was said"
            time.sleep(0.01)
        writer.scalars(6, "train", {"loss": 1.0})
    assert [(row["event"], row["step"]) for row in events] == [("system.degraded", 5)]
    assert events[0]["reason"] in capsys.readouterr().err
    assert [row["step"] for row in ledger.read(tmp_path / ledger.METRICS)] == [6]
