"""Line numbers of bad rows: right in any order, and no part of a file is read over and over."""

import io
import random
from pathlib import Path
from typing import Any

import pytest

from codex_jax.data import lines
from codex_jax.data.lines import Lines


pytestmark = pytest.mark.data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path, draw = tmp_path / "rows", random.Random(0)
    path.write_bytes(b"".join(b"x" * draw.randrange(60) + b"\n" for _ in range(150_000)))
    return path


def test_line_of_any_byte_in_any_order_is_right(file: Path, tmp_path: Path) -> None:
    content, draw = file.read_bytes(), random.Random(1)
    (tmp_path / "other").write_bytes(b"\n" * 100)
    counted = Lines()
    offsets = [0, 1 << 20, (1 << 20) - 1, 3 << 20, len(content), *(draw.randrange(len(content)) for _ in range(60))]
    for offset in offsets:
        assert counted.number(str(file), offset) == content[:offset].count(b"\n") + 1
        assert counted.number(str(tmp_path / "other"), 42) == 43


def test_each_part_is_counted_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    class Watched(io.FileIO):
        def read(self, size: int = -1) -> Any:
            taken.append(size)
            return super().read(size)

    monkeypatch.setattr(lines, "open", lambda path, mode: Watched(path), raising=False)
    counted, size = Lines(), file.stat().st_size
    units = list(range(0, size - 65_536, 65_536))
    random.Random(2).shuffle(units)
    for unit in units:  # a window after the other, each with a unit in which every row is bad
        for offset in range(unit, unit + 65_536, 256):
            counted.number(str(file), offset)
    # The whole once; half a stride, on average, before each unit; and the units.
    assert sum(taken) < 2 * size + len(units) * 700_000


def test_line_far_into_a_huge_file_has_no_number(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    assert Lines().number(str(tmp_path / "huge"), 1 << 39) is None
