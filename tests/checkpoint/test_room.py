"""Whether checkpoints will fit is known before the first step."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from codex_jax.checkpoint import room
from codex_jax.errors import TrainingStopped


pytestmark = pytest.mark.infra


def state(path: Path, share: float) -> dict[str, jax.ShapeDtypeStruct]:
    """Return a state as large as a share of what is free on the disk."""
    return {"all": jax.ShapeDtypeStruct((int(shutil.disk_usage(path).free * share),), np.int8)}


def test_state_of_which_two_do_not_fit_is_refused_unless_one_is_there(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingStopped, match=r"^no room to save: .* GB, and .* GB are free .*has 0 \(a quota"):
        room.check(root, state(root.parent, 0.7), keep=1)
    assert not root.exists()
    (root / "7").mkdir(parents=True)
    room.check(root, state(root.parent, 0.7), keep=1)
    assert capsys.readouterr().err == ""
    with pytest.raises(TrainingStopped, match="Make room, or"):
        room.check(root, state(root.parent, 1.1), keep=1)
    (root / "8").mkdir()
    with pytest.raises(TrainingStopped, match=r"has 2 .*older ones go by codex-jax checkpoint prune .* --keep-last 1"):
        room.check(root, state(root.parent, 1.1), keep=1)


def test_less_room_than_is_to_be_kept_is_said_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room.check(root, state(root.parent, 0.2), keep=3)
    assert capsys.readouterr().err == ""
    room.check(root, state(root.parent, 0.3), keep=3)
    said = capsys.readouterr().err
    assert said.startswith("codex_jax: the disk will be full: ") and said.count("\n") == 1
    assert "to keep 3, with the next one beside them" in said


def test_what_a_killed_save_left_counts_as_free(root: Path) -> None:
    (root / "3.saving").mkdir(parents=True)
    free = shutil.disk_usage(root).free
    with open(root / "3.saving" / "file", "wb") as file:
        file.truncate(2 * free)  # a hole: it has the size, and takes no room
    room.check(root, state(root, 1.2), keep=1)
