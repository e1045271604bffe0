"""Kills, full disks and vanished directories: what was acknowledged stays, what was not leaves no trace."""

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import checkpoint_examples as examples
import pytest
from disk_faults import SAVER, acknowledged, cannot_mount

from codex_jax.checkpoint import layout, manifest, retention, saving, store
from codex_jax.checkpoint.retention import Rules
from codex_jax.errors import AssetError, TrainingStopped


pytestmark = pytest.mark.infra


def check_restores(root: Path, step: int) -> None:
    found = store.find_newest(root)
    assert found and found.step == step and found.data_state == {"next": step}
    state = examples.make(step, examples.mesh(1), width=4096)
    assert examples.bits(store.restore(found, examples.target(state, examples.mesh(1)))) == examples.bits(state)


def killed_at(root: Path, first: int, delay: float, output: Path) -> tuple[list[str], int]:
    """Save from step `first` on, kill -9 `delay` s after an acknowledgement; return (removed, last acknowledged)."""
    with open(output, "w") as file:
        process = subprocess.Popen([sys.executable, SAVER, root, str(first), str(first + 1000)], stdout=file)
        while f"saved {first + 1}\n" not in output.read_text():
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.wait()
    return output.read_text().splitlines()[0].split()[1:], acknowledged(output.read_text())[-1]


def check_kills(root: Path, kills: int, output: Path, seed: int = 0) -> None:
    generator = random.Random(seed)
    step, leftovers = 0, list[str]()
    for _ in range(kills):
        removed, last = killed_at(root, step + 1, generator.uniform(0, 0.3), output)
        assert removed == leftovers  # the same command goes on over what the kill before it left
        found = store.find_newest(root)
        assert found and found.step in (last, last + 1)
        step, leftovers = found.step, [path.name for path in layout.leftovers(root)]
        check_restores(root, step)
        assert found.skipped == []
        assert len(layout.steps(root)) <= 3  # two are kept, and a third may wait for its deletion


def test_kill_at_random_moments_loses_nothing_acknowledged(root: Path, tmp_path: Path) -> None:
    check_kills(root, 2, tmp_path / "output")


@pytest.mark.slow
def test_kill_at_many_random_moments_loses_nothing_acknowledged(root: Path, tmp_path: Path) -> None:
    kills = int(os.environ.get("TEST_KILLS", "20"))
    seed = int(os.environ.get("TEST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"{kills} kills, TEST_SEED={seed}")
    check_kills(root, kills, tmp_path / "output", seed)
    print(f"{kills} of {kills} lost nothing")


def test_kill_during_the_first_save_begins_again(root: Path, save: Callable[..., list[int]]) -> None:
    save(1)
    (root / "1").rename(root / "1.saving")
    (root / "1.saving" / manifest.NAME).unlink()
    assert store.find_newest(root) is None
    with saving.Checkpointer(root, Rules(1), lambda *_: None) as checkpointer:
        assert checkpointer.removed == ["1.saving"]
    assert save(1) == [1]


def test_file_limit_in_a_save_ends_in_one_message(root: Path) -> None:
    ran = subprocess.run([sys.executable, SAVER, root, "1", "3", "--file-size=50000"], capture_output=True, text=True)
    assert ran.returncode == TrainingStopped.exit_code
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith(
        f"TrainingStopped: the checkpoint {root}/3 could not be saved: File too large. It needs "
    )
    assert acknowledged(ran.stdout) == [1, 2]
    assert sorted(path.name for path in root.iterdir()) == ["1", "2"]
    check_restores(root, 2)


@pytest.mark.skipif(bool(cannot_mount()), reason=f"no disk for a test: {cannot_mount()}")
@pytest.mark.parametrize("limit", ["size=6m", "size=60m,nr_inodes=40"])
def test_full_disk_keeps_older_checkpoints(tmp_path: Path, limit: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
        set -e
        mount -t tmpfs -o {limit} t {disk}
        {sys.executable} {SAVER} {disk}/checkpoints 1 50 2>{tmp_path}/error || echo ended $?
        ls {disk}/checkpoints > {tmp_path}/names
        cp -r {disk}/checkpoints {tmp_path}
        rm -f {disk}/ballast
    """
    ballast = f"{sys.executable} -c \"open('{disk}/ballast', 'wb').write(b'0' * 3_000_000)\""
    script = script.replace(f"t {disk}\n", f"t {disk}\n{ballast if limit == 'size=6m' else ':'}\n", 1)
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    error = (tmp_path / "error").read_text()
    assert "ended 4" in ran.stdout, ran.stdout + ran.stderr + error
    assert error.count("\n") == 1
    assert "No space left on device" in error and "make room on that disk" in error
    saved = acknowledged(ran.stdout)
    assert saved
    assert (tmp_path / "names").read_text().split() == sorted(map(str, saved[-2:]))
    check_restores(tmp_path / "checkpoints", saved[-1])


def test_vanished_root_is_reported_and_does_not_hang(root: Path) -> None:
    state = examples.make(1, examples.mesh(1))
    with saving.Checkpointer(root, Rules(2), lambda *_: None) as checkpointer:
        checkpointer.save(1, state, {}, {})
        checkpointer.close()
        shutil.rmtree(root)
        with pytest.raises(TrainingStopped, match="No such file or directory"):
            checkpointer.save(2, state, {}, {})


def test_next_save_works_after_a_failed_one(root: Path, save: Callable[..., list[int]]) -> None:
    state = examples.make(1, examples.mesh(1))
    acknowledged: list[int] = []
    with saving.Checkpointer(root, Rules(2), lambda step, _: acknowledged.append(step)) as checkpointer:
        shutil.rmtree(root)
        with pytest.raises(TrainingStopped):
            checkpointer.save(1, state, {}, {})
        checkpointer.raise_if_failed()  # once is enough
        root.mkdir()
        checkpointer.save(2, state, {}, {})
    assert acknowledged == [2]


def test_failing_acknowledgement_stops_training_and_keeps_the_checkpoint(root: Path) -> None:
    def refuse(step: int, made: manifest.Manifest) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(TrainingStopped, match=r"1 is saved, but recording it .* No space left on device"),
        saving.Checkpointer(root, Rules(2), refuse) as checkpointer,
    ):
        checkpointer.save(1, examples.make(1, examples.mesh(1)), {"next": 1}, {})
    found = store.find_newest(root)
    assert found and found.step == 1


def test_failed_save_does_not_hide_the_error_that_ended_training(root: Path) -> None:
    def refuse(step: int, made: manifest.Manifest) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(KeyError) as caught,
        saving.Checkpointer(root, Rules(2), refuse) as checkpointer,
    ):
        checkpointer.save(1, examples.make(1, examples.mesh(1)), {}, {})
        raise KeyError("first")
    assert "recording it" in caught.value.__notes__[0]


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AssetError, match="Not a directory"):
        store.find_newest(tmp_path / "file")
    with pytest.raises(AssetError, match="File exists"):
        saving.Checkpointer(tmp_path / "file", Rules(1), lambda *_: None)
    assert store.find_newest(tmp_path / "missing") is None


def test_retention_keeps_the_newest_and_touches_nothing_else(root: Path, save: Callable[..., list[int]]) -> None:
    root.mkdir()
    (root / "notes").mkdir()
    (root / "0").mkdir()  # a number, but not a checkpoint
    (root / "007").mkdir()
    (root / "3.txt").write_text("")
    assert save(9, 10, 11, 100, keep_last=2) == [9, 10, 11, 100]
    assert sorted(path.name for path in root.iterdir()) == ["0", "007", "100", "11", "3.txt", "notes"]


def test_killed_deletion_is_no_checkpoint(root: Path, save: Callable[..., list[int]]) -> None:
    save(1, 2)

    class Killed(BaseException):
        pass

    def killed_at_unlink(event: str, arguments: tuple[object, ...]) -> None:
        if armed and event == "os.remove":
            raise Killed

    armed = False
    sys.addaudithook(killed_at_unlink)
    armed = True
    with pytest.raises(Killed):
        retention.remove(root / "1")
    armed = False
    assert layout.steps(root) == [2]
    assert [path.name for path in layout.leftovers(root)] == ["1.deleting"]
    assert save(3) == [3]
    assert layout.leftovers(root) == []


def test_everything_is_flushed_before_it_is_acknowledged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    seen: list[set[str]] = []
    with saving.Checkpointer(root, Rules(1), lambda *_: seen.append(set(flushed))) as checkpointer:
        checkpointer.save(1, examples.make(1, examples.mesh(1)), {}, {})
    made = root / "1"
    names = {str(path.relative_to(root)) for path in made.rglob("*")} | {"1"}
    expected = {f"{root}/{name.replace('1', '1.saving', 1)}" for name in names}
    assert {path.removesuffix(".partial") for path in seen[0]} >= expected | {str(root)}


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Every fault above is reported by an exception alone: nothing is printed in this process."""
    yield
    assert capfd.readouterr().err == ""


def test_checkpoint_gets_its_name_after_what_must_be_on_the_disk_before(root: Path) -> None:
    seen: list[tuple[list[int], bool]] = []

    def flush() -> None:
        seen.append((layout.steps(root), (root / f"{len(seen) + 1}.saving" / manifest.NAME).exists()))
        if len(seen) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    acknowledged: list[int] = []
    with (
        pytest.raises(TrainingStopped, match="checkpoints/2 could not be saved: Input/output error"),
        saving.Checkpointer(
            root, Rules(2), lambda step, _: acknowledged.append(step), before_named=flush
        ) as checkpointer,
    ):
        for step in (1, 2):
            checkpointer.save(step, examples.make(step, examples.mesh(1)), {}, {})
    assert seen == [([], True), ([1], True)]
    assert acknowledged == layout.steps(root) == [1]
