"""A disk that is full, broken, slow or read-only: what fails is reported, nothing of it counts, nothing is lost."""

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import checkpoint_examples as examples
import disk_faults
import pytest

from codex_jax.checkpoint import layout, saving, store
from codex_jax.checkpoint.retention import Rules


pytestmark = pytest.mark.infra

needs_strace = pytest.mark.skipif(bool(disk_faults.cannot_trace()), reason=disk_faults.cannot_trace())
needs_mount = pytest.mark.skipif(bool(disk_faults.cannot_mount()), reason=disk_faults.cannot_mount())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 1 and 2; no test writes to them."""
    root = tmp_path_factory.mktemp("two") / "checkpoints"
    assert disk_faults.save(root, 1, 2).returncode == 0
    return root


@pytest.fixture
def two_saved(template: Path, root: Path) -> Path:
    return Path(shutil.copytree(template, root))


def check_second_stands(root: Path, ran: "subprocess.CompletedProcess[str]", *reasons: str) -> None:
    """The third save failed with one message that gives the reasons; nothing of it is left, and the next one works."""
    assert ran.returncode == 4, ran.stdout + ran.stderr
    assert disk_faults.acknowledged(ran.stdout) == [] and ran.stdout.count("failed ") == 1
    assert ran.stderr.count("\n") == 1 and all(reason in ran.stderr for reason in reasons), ran.stderr
    assert not layout.leftovers(root)
    check_restores(root, layout.steps(root)[0])
    again: list[int] = []
    with saving.Checkpointer(root, Rules(2), lambda step, _: again.append(step)) as checkpointer:
        checkpointer.save(4, examples.make(4, examples.mesh(1)), {}, {})
    assert again == [4]


def check_restores(root: Path, step: int) -> None:
    found = store.find_newest(root)
    assert found and found.step == step and not found.skipped
    state = examples.make(step, examples.mesh(1), width=4096)
    assert examples.bits(store.restore(found, examples.target(state, examples.mesh(1)))) == examples.bits(state)


@needs_strace
@pytest.mark.parametrize(
    ("calls", "error", "name", "reasons"),
    [
        ("write", "EDQUOT", "3.saving/manifest.json.partial", ("Disk quota exceeded", "make room in your quota")),
        pytest.param(
            "write",
            "ENOSPC",
            "3.saving/manifest.json.partial",
            ("No space left", "make room on that disk"),
            marks=pytest.mark.slow,
        ),
        ("fsync", "EIO", "", ("Input/output error", "check the disk")),
        pytest.param("rename", "EIO", "3.saving", ("Input/output error", "check the disk"), marks=pytest.mark.slow),
        pytest.param(
            "mkdir", "EROFS", "3.saving", ("Read-only file system", "make the disk writable"), marks=pytest.mark.slow
        ),
    ],
    ids=["quota at the manifest", "full at the manifest", "fsync", "rename", "read-only"],
)
def test_call_that_fails_in_a_save_is_reported(
    two_saved: Path, calls: str, error: str, name: str, reasons: tuple[str, ...]
) -> None:
    paths = [two_saved / name] if name else []
    under = disk_faults.traced(f"trace={calls}", f"inject={calls}:error={error}", paths=paths)
    ran = disk_faults.save(two_saved, 3, 3, under=under)
    assert layout.steps(two_saved) == [2, 1]
    check_second_stands(two_saved, ran, *reasons)


@needs_strace
def test_name_that_does_not_reach_the_disk_is_not_acknowledged(two_saved: Path) -> None:
    under = disk_faults.traced("trace=fsync", "inject=fsync:error=EIO", paths=[two_saved])
    check_second_stands(two_saved, disk_faults.save(two_saved, 3, 3, under=under), "Input/output error")


@needs_strace
def test_slow_disk_does_not_stop_the_steps(root: Path) -> None:
    under = disk_faults.traced("trace=fsync", "inject=fsync:delay_enter=300000:when=1..6")
    ran = disk_faults.save(root, 1, 1, "--steps", under=under)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("step\n") > 20 and ran.stdout.endswith("saved 1\n")


@pytest.mark.skipif(bool(disk_faults.cannot_compile()), reason=disk_faults.cannot_compile())
@pytest.mark.parametrize(
    ("call", "doing"),
    [
        pytest.param("mkdir:/3.saving", "looking at what is there", marks=pytest.mark.slow),
        pytest.param("fsync:/ocdbt.process_0/d", "writing the arrays", marks=pytest.mark.slow),
        pytest.param("fsync:/3.saving/meta.json", "flushing and hashing the files", marks=pytest.mark.slow),
        ("fsync:/checkpoints", "giving it its name"),
        pytest.param("rename:/1", "recording it and deleting older ones; it is complete", marks=pytest.mark.slow),
    ],
)
def test_save_that_hangs_ends_the_process_and_says_where(two_saved: Path, preload: Path, call: str, doing: str) -> None:
    env = {"LD_PRELOAD": str(preload), "DISK_ROOT": str(two_saved), "DISK_HANG_ON": call}
    ran = disk_faults.save(two_saved, 3, 3, "--max-secs=3", env=env)
    assert ran.returncode == 4, ran.stdout + ran.stderr
    said = f"saving the checkpoint {two_saved}/3 ({doing}) has not ended within 3 s (checkpoint.max_secs), since "
    assert ran.stderr.startswith(f"codex_jax: {said}") and ran.stderr.count("\n") == 1
    assert f"failed {said}" in ran.stdout
    assert bool(disk_faults.acknowledged(ran.stdout)) == ("complete" in doing)
    check_restores(two_saved, layout.steps(two_saved)[0])


@needs_mount
def test_full_disk_with_go_on_saves_again_when_there_is_room(tmp_path: Path) -> None:
    disk, error, output = tmp_path / "disk", tmp_path / "error", tmp_path / "output"
    disk.mkdir()
    fill = f"head -c {{}} /dev/zero > {disk}/ballast; python=1"
    saver = f"{sys.executable} {disk_faults.SAVER} {disk}/checkpoints"
    script = f"""
        mount -t tmpfs -o size=12m t {disk}
        {saver} 1 2 > {output} || exit 1
        {fill.format("$(($(stat -f -c '%a*%S' " + str(disk) + ") - 1000000))")}
        {saver} 3 5 --go-on --ballast={disk}/ballast >> {output} 2> {error}; echo ended $?
        ls {disk}/checkpoints
    """
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    said = output.read_text()
    assert disk_faults.acknowledged(said) == [1, 2, 4, 5] and said.count("failed ") == 1, said + error.read_text()
    assert ran.stdout.split() == ["ended", "0", "4", "5"]
    assert "3 could not be saved: No space left on device" in error.read_text()
    assert error.read_text().endswith(". Training goes on, and the next checkpoint is tried again\n")


@pytest.mark.slow
@needs_mount
def test_disk_that_has_become_read_only_is_reported(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    saver = f"{sys.executable} {disk_faults.SAVER} {disk}/checkpoints"
    script = f"""
        mount -t tmpfs t {disk} && {saver} 1 2 > /dev/null && mount -o remount,ro {disk} || exit 1
        {saver} 3 3 2>&1; echo ended $?
        ls {disk}/checkpoints
    """
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    assert ran.stdout.endswith("ended 4\n1\n2\n") and "Read-only file system" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.slow
def test_process_without_memory_leaves_the_last_checkpoint(root: Path) -> None:
    # Orbax can wait for ever for a thread that could not be made: then the limit of a save ends it.
    ran = disk_faults.save(root, 1, 3, "--memory=100000000", "--max-secs=5")
    assert ran.returncode != 0 and disk_faults.acknowledged(ran.stdout) == [1, 2]
    check_restores(root, 2)


@needs_strace
def test_all_of_a_checkpoint_is_flushed_before_it_is_acknowledged(root: Path, tmp_path: Path) -> None:
    """Read from the system calls of the whole process: what was written last to each file was flushed after that."""
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,write,pwrite64,writev,pwritev,rename"
    ran = disk_faults.save(root, 1, 1, under=[*disk_faults.traced(calls, output=trace), "-y"])
    assert ran.returncode == 0, ran.stderr
    lines = trace.read_text().splitlines()
    told = next(number for number, line in enumerate(lines) if '"saved"' in line or '"saved 1' in line)
    named = next(number for number, line in enumerate(lines) if f'rename("{root}/1.saving", "{root}/1")' in line)
    made = [path.relative_to(root / "1") for path in (root / "1").rglob("*")] + [Path()]
    for path in made:
        names = {f"<{spelt}>" for spelt in spellings(root / "1.saving" / path)}
        at = [(number, line) for number, line in enumerate(lines) if any(name in line for name in names)]
        flushed = max(number for number, line in at if "sync(" in line)
        written = max((number for number, line in at if "write" in line), default=-1)
        assert written < flushed < named < told, path
    assert any(named < number < told and f"<{root}>" in line for number, line in enumerate(lines) if "fsync(" in line)


def spellings(path: Path) -> list[str]:
    """Return the names that a file of a checkpoint has had."""
    before = str(path).replace("/state", "/state.orbax-checkpoint-tmp", 1)
    return ["".join(pair) for pair in itertools.product((str(path), before), ("", ".partial", ".__lock"))]


@pytest.mark.slow
def test_directory_that_vanishes_in_a_save_is_reported(root: Path, save: Callable[..., list[int]]) -> None:
    ran = subprocess.Popen(
        [sys.executable, disk_faults.SAVER, root, "1", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ran.stdout and ran.stdout.readline().startswith("removed") and ran.stdout.readline() == "saved 1\n"
    root.rename(root.with_name("elsewhere"))
    _, error = ran.communicate(timeout=60)
    assert ran.returncode == 4 and "No such file or directory" in error and error.count("\n") == 1, error
