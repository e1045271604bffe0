"""A5: kill -9 before each thing that a deletion, or a change of the best, does to the disk."""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import bare
import pytest

from codex_jax.checkpoint import layout, manifest, retention, store
from codex_jax.checkpoint.retention import Rules
from codex_jax.errors import AssetError


pytestmark = pytest.mark.infra

PRUNER = Path(__file__).with_name("pruner.py")


def intact(root: Path) -> list[int]:
    found = []
    for step in layout.steps(root):
        try:
            manifest.verify(layout.path_of(root, step))
        except AssetError:
            continue
        found.append(step)
    return sorted(found)


@pytest.mark.parametrize(
    ("losses", "rules", "stay"),
    [
        pytest.param({1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}, (2, 0, 0), [3, 4], marks=pytest.mark.slow),
        ({1: 0.5, 2: 0.9, 3: 0.1}, (1, 0, 1), [3]),  # 3 takes the place of 1 as the best, and of 2 as the newest
        pytest.param({2: 0.5, 4: 0.3, 6: 0.7, 8: 0.2, 9: 0.9}, (1, 6, 2), [4, 6, 8, 9], marks=pytest.mark.slow),
    ],
    ids=["deletion", "best swapped", "all rules"],
)
def test_kill_at_every_point_of_retention_loses_nothing(
    tmp_path: Path, losses: Mapping[int, float], rules: tuple[int, int, int], stay: list[int]
) -> None:
    template, roots = tmp_path / "template", tmp_path / "roots"
    bare.put_losses(template, losses)
    (template / "0.deleting").mkdir()  # an earlier kill left it
    (template / "0.deleting" / "values").write_bytes(b"0")
    roots.mkdir()
    arguments = [template, roots, *map(str, rules)]
    ran = subprocess.run([sys.executable, PRUNER, *arguments], capture_output=True, text=True, check=True)
    *points, last = ran.stdout.split()
    assert last == "whole"
    assert Counter(points).keys() >= {"open", "os.rename", "os.remove", "os.rmdir"}
    for number in range(1, len(points) + 2):
        root = roots / str(number)
        left = layout.steps(root)
        assert intact(root) == sorted(left), f"killed before {points[number - 1]}: a name of a checkpoint that is none"
        assert set(left) >= set(stay)
        found = store.find_newest(root)
        assert found and (found.step, found.skipped) == (max(losses), [])
        retention.sweep(root)  # the same command again
        retention.apply(root, Rules(*rules), {})
        assert sorted(layout.steps(root)) == stay
        assert layout.leftovers(root) == []
