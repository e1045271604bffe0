"""Any number of hosts read the same global batches, from a store and while tokenising."""

import dataclasses
import itertools
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import stores
from corpora import write_jsonl

from codex_jax.data import plan


pytestmark = pytest.mark.data

PROGRAM = str(Path(__file__).with_name("store_process.py"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 documents and, beside them, their store."""
    path = write_jsonl(tmp_path_factory.mktemp("corpus") / "rows.jsonl", range(60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_BYTES", stores.SHARD_BYTES)
        stores.build(stores.settings_for(path, path.parent / "store"))
    return path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", stores.SHARD_BYTES)


@pytest.mark.parametrize("mode", ["store", "stream"])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_parts_of_all_hosts_are_the_global_batch(rows: Path, mode: str, count: int) -> None:
    settings = stores.settings_for(rows, rows.parent / "store")
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, mode=mode))
    whole = stores.open_stream(settings)
    hosts = [stores.open_stream(settings, shard=(index, count)) for index in range(count)]
    for _ in range(40):  # more than two epochs
        assert stores.digest(*(next(host) for host in hosts)) == stores.digest(next(whole))
        assert all(host.state() == whole.state() for host in hosts)
    for stream in (whole, *hosts):
        stream.close()


def test_eight_hosts_stop_and_two_go_on(rows: Path) -> None:
    settings = stores.settings_for(rows, rows.parent / "store")
    whole = stores.open_stream(settings)
    expected = [stores.digest(next(whole)) for _ in range(20)]
    eight = [stores.open_stream(settings, shard=(index, 8)) for index in range(8)]
    found = [stores.digest(*(next(host) for host in eight)) for _ in range(9)]
    two = [stores.open_stream(settings, shard=(index, 2)) for index in range(2)]
    for host in two:
        host.restore(eight[3].state())
    found += [stores.digest(*(next(host) for host in two)) for _ in range(11)]
    assert found == expected


def run(rows: Path, count: int, saved: Path, tensor: int = 1) -> list[str]:
    """Take five batches in so many processes; return their digests."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, PROGRAM, str(rows), str(rows.parent / "store"), str(count)]
    rest = [port, "5", str(saved), str(tensor)]
    started = [
        subprocess.Popen([*command, str(index), *rest], stdout=subprocess.PIPE, text=True) for index in range(count)
    ]
    printed = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * count
    return [line.split()[1] for line in printed[0].splitlines() if line.startswith("batch ")]


@pytest.mark.parametrize("counts", [(2, 1), (1, 2)], ids=["two to one", "one to two"])
def test_real_processes_hold_each_row_once_and_their_number_may_change(
    rows: Path, tmp_path: Path, counts: tuple[int, int]
) -> None:
    stream = stores.open_stream(stores.settings_for(rows, rows.parent / "store"))
    expected = [stores.digest(next(stream)) for _ in range(10)]
    found = [run(rows, count, tmp_path / "state.json") for count in counts]
    assert list(itertools.chain(*found)) == expected


def test_processes_that_share_a_product_read_the_same_rows(rows: Path, tmp_path: Path) -> None:
    stream = stores.open_stream(stores.settings_for(rows, rows.parent / "store"))
    expected = [stores.digest(next(stream)) for _ in range(5)]
    assert run(rows, 2, tmp_path / "state.json", tensor=4) == expected
