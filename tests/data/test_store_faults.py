"""Stores that are killed, damaged or out of date: the same bytes in the end, or refused with the reason."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import stores
from corpora import opened, write_jsonl

from codex_jax.cli import app
from codex_jax.data import pipeline, plan, shard, store
from codex_jax.errors import AssetError, Interrupted


pytestmark = pytest.mark.data


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", stores.SHARD_BYTES)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "rows.jsonl", range(60))


def start(corpus: Path, directory: Path, workers: int, *changes: str) -> "subprocess.Popen[bytes]":
    """Begin to build; what goes wrong is in the file `said` beside the store."""
    command = [sys.executable, stores.__file__, str(corpus), str(directory), str(workers), *changes]
    with open(directory.parent / "said", "w") as said:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, cwd=directory.parent)


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_workers_writes_the_same_bytes(rows: Path, tmp_path: Path, workers: int) -> None:
    alone = stores.build(stores.settings_for(rows, tmp_path / "alone"))
    assert start(rows, tmp_path / "many", workers).wait(120) == 0
    assert stores.contents(alone.directory) == stores.contents(tmp_path / "many")
    assert (alone.directory / store.NAME).read_bytes() == (tmp_path / "many" / store.NAME).read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_build_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, workers: int) -> None:
    rows, directory = write_jsonl(tmp_path / "many.jsonl", range(1000)), tmp_path / "killed"
    process = start(rows, directory, workers)
    wait_for(lambda: len(finished(directory)) > 20)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not (directory / store.NAME).exists()
    wait_for(lambda: not any(child.is_running() for child in children))
    before = {path: path.stat().st_ino for path in finished(directory)}
    (directory / "shards" / "00000.x.partial").mkdir()
    stores.build(stores.settings_for(rows, directory))
    assert {path: path.stat().st_ino for path in before} == before
    straight = stores.build(stores.settings_for(rows, tmp_path / "straight"))
    assert stores.contents(directory) == stores.contents(straight.directory)


def finished(directory: Path) -> list[Path]:
    return [path for path in (directory / "shards").glob("*") if path.suffix != ".partial"]


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_build_that_is_interrupted_keeps_its_shards(rows: Path, tmp_path: Path) -> None:
    settings, directory = stores.settings_for(rows, tmp_path / "store"), tmp_path / "store"

    def stop() -> None:
        if len(finished(directory)) == 3:
            raise Interrupted("asked to")

    with pytest.raises(Interrupted):
        stores.build(settings, stop)
    assert len(finished(directory)) == 3
    stores.build(settings)


def workers_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        pytest.param(signal.SIGKILL, "one of 2 processes was killed", id="killed"),
        pytest.param(signal.SIGSTOP, "not come on for data.max_wait_secs=4", id="stopped", marks=pytest.mark.slow),
    ],
)
def test_worker_that_is_gone_or_stopped_is_named_and_none_is_left(
    tmp_path: Path, number: signal.Signals, says: str
) -> None:
    rows, directory = write_jsonl(tmp_path / "many.jsonl", range(1200)), tmp_path / "store"
    process = start(rows, directory, 2, "data__max_wait_secs=4")
    wait_for(lambda: len(finished(directory)) > 20)
    workers = workers_of(process)
    assert len(workers) == 2
    workers[0].send_signal(number)
    code, error = process.wait(120), (tmp_path / "said").read_text()
    assert code == 4 and says in error, error
    if number == signal.SIGSTOP:
        assert f"process {workers[0].pid}" in error and "is stopped" in error and str(rows) in error, error
    assert are_gone(workers)
    before = {path: path.stat().st_ino for path in finished(directory)}
    assert len(before) > 20
    stores.build(stores.settings_for(rows, directory))
    assert {path: path.stat().st_ino for path in before} == before


@pytest.mark.parametrize(("workers", "secs"), [(0, 1), pytest.param(1, 4, marks=pytest.mark.slow)])
def test_reading_that_hangs_is_named_and_the_shards_that_are_done_stay(tmp_path: Path, workers: int, secs: int) -> None:
    rows, directory = write_jsonl(tmp_path / "rows.jsonl", range(60)), tmp_path / "store"
    (tmp_path / "hang").touch()
    process = start(
        rows, directory, workers, f"data__max_wait_secs={secs}", "safety__classifier=stores:hang_at_document_40"
    )
    code, error = process.wait(120), (tmp_path / "said").read_text()
    assert code == 4, error
    assert f"has not come on for data.max_wait_secs={secs}: process " in error and ", which makes it, is " in error
    assert f"is read from {rows}. See to" in error
    assert 2 <= len(finished(directory)) <= 6 and not (directory / store.NAME).exists()
    (tmp_path / "hang").unlink()
    assert start(rows, directory, workers, "safety__classifier=stores:hang_at_document_40").wait(120) == 0


def test_worker_that_is_stopped_when_it_has_nothing_to_do_is_not_waited_for(rows: Path, tmp_path: Path) -> None:
    total = len(finished(stores.build(stores.settings_for(rows, tmp_path / "first")).directory))
    (tmp_path / "hang").touch()
    process = start(rows, tmp_path / "store", 2, "safety__classifier=stores:hang_at_document_40")
    wait_for(lambda: len(finished(tmp_path / "store")) == total - 1)
    time.sleep(0.5)  # a shard is there before its worker has said so
    switches = {worker: worker.num_ctx_switches().voluntary for worker in workers_of(process)}
    time.sleep(0.5)
    idle = min(switches, key=lambda worker: worker.num_ctx_switches().voluntary - switches[worker])
    idle.suspend()
    (tmp_path / "hang").unlink()
    assert process.wait(60) == 0, (tmp_path / "said").read_text()
    assert are_gone([idle])


def refused(settings: Any) -> str:
    with pytest.raises(AssetError) as caught:
        stores.open_stream(settings)
    return str(caught.value)


def test_missing_store_names_the_command(rows: Path, tmp_path: Path) -> None:
    assert "make it with `codex-jax data build`" in refused(stores.settings_for(rows, tmp_path / "none"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data__validation_fraction": 0.2}, r"validation_fraction: 0.1 in the store, 0.2 now"),
        ({"safety__enabled": False, "safety__bypass_reason": "a test"}, "safety: "),
        ({"data__text_field": "body"}, "text_field: 'text' in the store, 'body' now"),
    ],
)
def test_store_of_other_settings_is_refused_naming_each(
    rows: Path, tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    stores.build(stores.settings_for(rows, tmp_path / "store"))
    message = refused(stores.settings_for(rows, tmp_path / "store", **change))
    assert expected in message and message.count(" in the store, ") == 1
    with pytest.raises(AssetError, match="one of other data"):
        stores.build(stores.settings_for(rows, tmp_path / "store", **change))


def test_store_of_another_tokenizer_is_refused(rows: Path, tmp_path: Path) -> None:
    settings = stores.settings_for(rows, tmp_path / "store", tokenizer__vocab_size=290)
    stores.build(settings)
    corpus = opened(settings)
    with pytest.raises(AssetError, match=r"other data:\n  tokenizer: '\w{12}' in the store, '\w{12}' now\n"):
        pipeline.train_stream(settings, corpus, pipeline.make_tokenizer(settings, corpus), 4)


def change_a_byte(path: Path, at: int) -> None:
    """Change one byte and leave the time of the change to the file system."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_one_changed_byte_of_a_source_is_named_and_the_store_not_used(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", range(1600))
    settings = stores.settings_for(rows, tmp_path / "store")
    made = stores.build(settings)
    before = opened(settings)[0].corpus.fingerprint
    place = rows.read_bytes().index(b"document 800:")
    change_a_byte(rows, place)
    assert opened(settings)[0].corpus.fingerprint == before  # neither end of the file has changed
    message = refused(settings)
    assert f"{rows}: SHA-256" in message and "when the store was built" in message
    assert store.verify(made) == [line for line in store.verify(made) if line.startswith(f"{rows}: SHA-256")] != []
    change_a_byte(rows, place)
    os.utime(rows, (1, 1))
    stores.open_stream(settings)  # another time, and the same bytes
    assert store.verify(made) == []


def test_position_is_refused_in_a_store_that_was_built_again_of_an_edited_file(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", range(1600))
    before, after = (stores.settings_for(rows, tmp_path / name) for name in ("before", "after"))
    stores.build(before)
    state = stores.open_stream(before).state()
    change_a_byte(rows, rows.read_bytes().index(b"document 800:"))
    stores.build(after)
    with pytest.raises(AssetError, match=r"other data:\n  data\.tokens: '\w{12}' in the checkpoint, '\w{12}' now\n"):
        stores.open_stream(after).restore(state)


def test_sources_that_are_gone_new_or_longer_are_named(tmp_path: Path) -> None:
    directory = tmp_path / "texts"
    directory.mkdir()
    for name in ("a", "b", "c"):
        (directory / f"{name}.txt").write_text(f"file {name}\n" * 40)
    settings = stores.settings_for(directory, tmp_path / "store")
    stores.build(settings)
    (directory / "b.txt").write_text("longer\n" * 100)
    message = refused(settings)
    assert "b.txt: 700 bytes, 280 when the store was built" in message and "in the store" not in message
    (directory / "b.txt").rename(directory / "d.txt")
    message = refused(settings)
    assert "b.txt: not among the files any more" in message and "d.txt: was not among the files" in message


def test_copied_sources_and_store_are_read(rows: Path, tmp_path: Path) -> None:
    stores.build(stores.settings_for(rows, tmp_path / "store"))
    shutil.copytree(tmp_path / "store", tmp_path / "copy" / "store")
    shutil.copy(rows, tmp_path / "copy" / "rows.jsonl")
    here, there = (stores.settings_for(at / "rows.jsonl", at / "store") for at in (tmp_path, tmp_path / "copy"))
    state = stores.open_stream(here).state()
    copied = stores.open_stream(there)
    copied.restore(state)
    assert stores.digest(next(copied)) == stores.digest(next(stores.open_stream(here)))


def test_damaged_shard_is_named_and_made_again(rows: Path, tmp_path: Path) -> None:
    settings = stores.settings_for(rows, tmp_path / "store")
    made = stores.build(settings)
    before = stores.contents(made.directory)
    path = shard.directory_of(made.directory, 2) / "tokens.bin"
    change_a_byte(path, 5)
    stores.open_stream(settings)  # seen by verify only
    assert store.verify(made) == [f"{path}: SHA-256 differs"]
    path.write_bytes(path.read_bytes()[:-2])
    message = refused(settings)
    assert f"{path}: truncated" in message and "remove" in message and "data build" in message
    (made.directory / store.NAME).unlink()
    stores.build(settings)
    assert stores.contents(made.directory) == before and store.verify(made) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "schema"])
def test_damaged_manifest_is_refused(rows: Path, tmp_path: Path, damage: str) -> None:
    settings = stores.settings_for(rows, tmp_path / "store")
    path = stores.build(settings).directory / store.NAME
    text = path.read_text()
    changed = {
        "flip": text.replace('"tokens": 1', '"tokens": 2', 1),
        "cut": text[:-40],
        "schema": text.replace('"schema": 1', '"schema": 2'),
    }
    path.write_text(changed[damage])
    assert f"{path} is damaged" in refused(settings)


def test_build_begun_with_other_files_begins_again(rows: Path, tmp_path: Path) -> None:
    settings = stores.settings_for(rows, tmp_path / "store")
    made = stores.build(settings)
    (made.directory / store.NAME).unlink()
    write_jsonl(rows, range(7, 67))
    stores.build(settings)
    straight = stores.build(stores.settings_for(rows, tmp_path / "straight"))
    assert stores.contents(made.directory) == stores.contents(straight.directory)


def test_directory_with_something_else_is_left_alone(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    with pytest.raises(AssetError, match="not empty and no store"):
        stores.build(stores.settings_for(rows, tmp_path / "home"))
    assert (tmp_path / "home" / "thesis.txt").read_text() == "mine"


def test_verify_command_names_the_first_difference_and_exits_3(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stores.build(stores.settings_for(rows, tmp_path / "store"))
    assert app.main(["data", "verify", str(made.directory)]) == 0
    change_a_byte(rows, 30)
    change_a_byte(shard.directory_of(made.directory, 0) / "ends.bin", 0)
    capsys.readouterr()
    assert app.main(["data", "verify", str(made.directory), "--json"]) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["ok"], len(found["differing"])) == (False, 2)
    assert captured.err.startswith(f"codex_jax: {rows}: SHA-256") and "and 1 more differ" in captured.err
