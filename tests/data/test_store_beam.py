"""Beam builds the store that the local build makes, byte for byte, with several processes of the direct runner."""

import subprocess
import sys
from pathlib import Path

import pytest
import stores
from corpora import TOKENIZER, write_jsonl

from codex_jax.data import plan, store


pytestmark = pytest.mark.data

pytest.importorskip(
    "apache_beam", reason="needs the extra beam, which cannot be installed beside the lock: nox -s beam"
)

PROGRAM = """
import sys
from pathlib import Path
import stores
from codex_jax.data import beam, plan
plan.SHARD_BYTES = stores.SHARD_BYTES
settings = stores.settings_for(Path(sys.argv[1]), Path(sys.argv[2]), tokenizer__path=sys.argv[3])
beam.run(settings, sys.argv[4:])
"""


def test_direct_runner_of_several_processes_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", stores.SHARD_BYTES)
    rows = write_jsonl(tmp_path / "rows.jsonl", range(60))
    TOKENIZER.save(tmp_path / "tokenizer")
    options = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=3"]
    command = [sys.executable, "-c", PROGRAM, str(rows), str(tmp_path / "beam"), str(tmp_path / "tokenizer"), *options]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    local = stores.build(stores.settings_for(rows, tmp_path / "local"))
    assert len(local.shards) > 8
    assert stores.contents(tmp_path / "beam") == stores.contents(local.directory)
    assert (tmp_path / "beam" / store.NAME).read_bytes() == (local.directory / store.NAME).read_bytes()
