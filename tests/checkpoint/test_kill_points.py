"""Killed at every single call to the file system of a save: what was acknowledged is there, and the next save works."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import checkpoint_examples as examples
import disk_faults
import pytest

from codex_jax.checkpoint import layout, store


pytestmark = [
    pytest.mark.infra,
    pytest.mark.skipif(bool(disk_faults.cannot_compile()), reason=disk_faults.cannot_compile()),
]

RANDOM = re.compile("[0-9a-f]{32}")

READER = """
import sys
from pathlib import Path
import checkpoint_examples as examples
from codex_jax.checkpoint import store
found = store.find_newest(Path(sys.argv[1]))
like = examples.make(0, examples.mesh(1), width=4096)
store.restore(found, examples.target(like, examples.mesh(1)))
"""


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 1 and 2, of which the third save deletes one."""
    root = tmp_path_factory.mktemp("two") / "checkpoints"
    assert disk_faults.save(root, 1, 2).returncode == 0
    return root


Third = Callable[[str, Mapping[str, str]], "tuple[subprocess.CompletedProcess[str], Path]"]


@pytest.fixture
def third(two_saved: Path, preload: Path, tmp_path: Path) -> Third:
    """Save step 3 into a copy of `two_saved` with a faulty disk; return the process and the copy."""

    def run(name: str, fault: Mapping[str, str]) -> "tuple[subprocess.CompletedProcess[str], Path]":
        root = tmp_path / name / "checkpoints"
        shutil.copytree(two_saved, root)
        env = {"LD_PRELOAD": str(preload), "DISK_ROOT": str(root), **fault}
        return disk_faults.save(root, 3, 3, env=env), root

    return run


def check(root: Path, output: str) -> None:
    """The newest is the third, or the second if the third was not acknowledged; and it is exact."""
    found = store.find_newest(root)
    assert found and not found.skipped
    assert found.step == 3 if disk_faults.acknowledged(output) else found.step in (2, 3)
    state = examples.make(found.step, examples.mesh(1), width=4096)
    assert examples.bits(store.restore(found, examples.target(state, examples.mesh(1)))) == examples.bits(state)


@pytest.mark.parametrize(
    ("call", "newest"),
    [
        pytest.param("rename:manifest.json.partial", 2, marks=pytest.mark.slow),
        ("rename:/3.saving", 2),
        pytest.param("fsync:/checkpoints", 3, marks=pytest.mark.slow),
        ("unlink:1.deleting/meta.json", 3),
    ],
)
def test_kill_at_a_turning_point_of_a_save_loses_nothing(third: Third, call: str, newest: int) -> None:
    ran, root = third("one", {"DISK_KILL_ON": call})
    assert ran.returncode == -9, ran.stderr
    check(root, ran.stdout)
    assert layout.steps(root)[0] == newest
    again = disk_faults.save(root, 3, 4)
    assert again.returncode == 0, again.stderr
    assert layout.steps(root) == [4, 3] and not layout.leftovers(root)


def calls_of(log: Path, root: Path) -> Iterator[tuple[str, str, int]]:
    """Yield each call of a log: its name, its path below `root` with * for names that are random, the how many-th."""
    seen: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        call = RANDOM.sub("*", line.replace(str(root), ""))
        seen[call] += 1
        name, _, path = call.partition(" ")
        yield name, path, seen[call]


@pytest.mark.slow
def test_kill_at_every_call_of_a_save_loses_nothing(third: Third, tmp_path: Path) -> None:
    ran, counted = third("counted", {"DISK_LOG": str(tmp_path / "log")})
    assert ran.returncode == 0, ran.stderr
    calls = list(calls_of(tmp_path / "log", counted))

    def kill_at(number: int) -> bool:
        name, path, nth = calls[number]
        fault = {"DISK_KILL_ON": f"{name}:/{number}/checkpoints{path}", "DISK_KILL_NTH": str(nth)}
        ran, root = third(str(number), fault)
        check(root, ran.stdout)
        shutil.rmtree(root.parent)
        # Writes that arrive together go to one file, as it happens: one save has more files, and calls, than another.
        assert ran.returncode == -9 or (ran.returncode == 0 and nth > 1 and "/3.saving/state" in path), calls[number]
        return ran.returncode == -9

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        killed = sum(pool.map(kill_at, range(len(calls))))
    print(f"killed at {killed} of {len(calls)} calls; the others did not come")


@pytest.mark.slow
def test_kill_while_verifying_and_restoring_changes_nothing(two_saved: Path, preload: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    shutil.copytree(two_saved, root)
    env = {**os.environ, "LD_PRELOAD": str(preload), "DISK_ROOT": str(root), "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = f"{disk_faults.HERE}:{env.get('PYTHONPATH', '')}"
    log = tmp_path / "log"
    assert subprocess.run([sys.executable, "-c", READER, root], env={**env, "DISK_LOG": str(log)}).returncode == 0
    last = len(log.read_text().splitlines())
    for number in (1, last // 2, last):
        env["DISK_KILL_AT"] = str(number)
        assert subprocess.run([sys.executable, "-c", READER, root], env=env).returncode == -9
    found = store.find_newest(root)
    assert found and found.step == 2 and not found.skipped
    assert sorted(path.name for path in root.iterdir()) == ["1", "2"]


def test_clock_that_jumps_back_a_day_changes_neither_order_nor_retention(
    two_saved: Path, preload: Path, tmp_path: Path
) -> None:
    root = tmp_path / "checkpoints"
    shutil.copytree(two_saved, root)
    ran = disk_faults.save(root, 3, 4, env={"LD_PRELOAD": str(preload), "CLOCK_BACK": "86400"})
    assert ran.returncode == 0, ran.stderr
    for age, step in enumerate(layout.steps(root)):
        for path in (root / str(step), *(root / str(step)).rglob("*")):
            os.utime(path, (1e9 + 1e5 * age, 1e9 + 1e5 * age))  # the newest seems the oldest
    assert layout.steps(root) == [4, 3]
    check_newest = store.find_newest(root)
    assert check_newest and check_newest.step == 4
    assert disk_faults.save(root, 5, 5).returncode == 0
    assert layout.steps(root) == [5, 4]
