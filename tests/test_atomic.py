"""A file that several processes make at once is made once, whole, and nothing else is left."""

import stat
import threading
from pathlib import Path

from codex_jax import atomic


def test_of_several_that_write_at_once_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "key"
    start = threading.Barrier(8)
    seen: list[bytes] = []

    def write(number: int) -> None:
        start.wait()
        atomic.write_once(path, str(number).encode() * 64)
        seen.append(path.read_bytes())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 and len(set(seen)) == 1 and len(seen[0]) == 64
    assert [one.name for one in tmp_path.iterdir()] == ["key"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
