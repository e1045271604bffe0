import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from codex_jax.tracking import provenance, system


pytestmark = pytest.mark.infra


@pytest.mark.parametrize(
    ("argv", "masked"),
    [
        (["--hub_token=s3cr"], ["--hub_token=***"]),
        (["--api-key", "s3cr", "x"], ["--api-key", "***", "x"]),
        (["--config.wandb.apikey=a,b=c"], ["--config.wandb.apikey=***"]),
        (["configs/gpt2.py:tiny,db_password=a,b"], ["configs/gpt2.py:tiny,db_password=***"]),
        (["--SECRET=s3cr"], ["--SECRET=***"]),
        (["--data=https://me:s3cr@host/x"], ["--data=https://***@host/x"]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (["--config.tokenizer.path=a"], ["--config.tokenizer.path=a"]),
        (["--config.generate.num_tokens=48"], ["--config.generate.num_tokens=48"]),
    ],
)
def test_values_of_secret_flags_are_masked_and_others_are_not(argv, masked):
    assert provenance.mask(argv) == masked


def test_provenance_is_json_and_holds_what_it_was_given():
    record = provenance.collect(argv=["main.py", "--token=s3cr"], digests={"config": "ab"}, code=Path(__file__).parent)
    text = json.dumps(record)
    assert "s3cr" not in text
    assert record["digests"] == {"config": "ab"}
    assert record["versions"]["numpy"]


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_git_gives_commit_and_dirty_flag_and_never_the_remote(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", "https://me:s3cr@example.org/x.git")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "one")
    record = provenance.collect(argv=[], digests={}, code=tmp_path)
    assert len(record["git"]["commit"]) == 40
    assert record["git"]["dirty"] is False
    assert "example.org" not in json.dumps(record)
    (tmp_path / "a").write_text("2")
    assert provenance.collect(argv=[], digests={}, code=tmp_path)["git"]["dirty"] is True


def test_asking_git_runs_no_program_named_in_the_repository(tmp_path):
    git(tmp_path, "init", "-q")
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git(tmp_path, "add", "hook")
    git(tmp_path, "config", "core.fsmonitor", str(hook))
    provenance.collect(argv=[], digests={}, code=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_outside_a_repository_there_is_no_commit(tmp_path):
    assert provenance.collect(argv=[], digests={}, code=tmp_path)["git"] is None


def test_the_peak_is_never_below_what_a_large_block_took():
    program = (
        "import psutil; from codex_jax.tracking import system\n"
        "before = system.peak_rss_bytes(); x = b'1' * 50_000_000; del x\n"
        "print(system.peak_rss_bytes() - before, system.peak_rss_bytes() - psutil.Process().memory_info().rss)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(int(number) > 40_000_000 for number in done.stdout.split())
    assert system.peak_rss_bytes() >= psutil.Process().memory_info().rss * 0.9
