import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from codex_jax import digest
from codex_jax.tracking import hardware, provenance, repository, system


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


def repository_with(folder, text):
    git(folder, "init", "-q")
    (folder / "a.py").write_text(text)
    git(folder, "add", "a.py")
    git(folder, "commit", "-qm", "one")


def test_diff_has_what_is_changed_and_staged_in_the_whole_repository(tmp_path):
    repository_with(tmp_path, "one\n")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "b.py").write_text("staged\n")
    git(tmp_path, "add", "part/b.py")
    (tmp_path / "a.py").write_text("two\n")
    found = repository.diff(tmp_path / "part", 10_000)
    assert "-one\n+two\n" in found.text and "+staged\n" in found.text
    assert found.num_bytes == len(found.text)
    assert repository.diff(tmp_path, 20) == (found.text[:20], found.num_bytes)


def test_clean_tree_has_no_diff(tmp_path):
    repository_with(tmp_path, "one\n")
    assert repository.diff(tmp_path, 1000) is None
    assert repository.diff(tmp_path.parent, 1000) is None


def test_diff_runs_no_program_named_in_the_repository(tmp_path):
    repository_with(tmp_path, "one\n")
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    (tmp_path / ".gitattributes").write_text("*.py diff=own\n")
    for name in ("diff.external", "diff.own.command", "diff.own.textconv", "core.fsmonitor"):
        git(tmp_path, "config", name, str(hook))
    (tmp_path / "a.py").write_text("two\n")
    assert "+two" in repository.diff(tmp_path, 1000).text
    assert not (tmp_path / "ran").exists()


def test_code_that_git_does_not_track_makes_the_tree_dirty(tmp_path):
    repository_with(tmp_path, "one\n")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    git(tmp_path, "add", ".gitignore")
    git(tmp_path, "commit", "-qm", "two")
    (tmp_path / "ignored.py").write_text("x")
    assert repository.state(tmp_path)["dirty"] is False
    (tmp_path / "new.py").write_text("y")
    found = repository.state(tmp_path)
    assert (found["dirty"], found["untracked"]) == (True, {"new.py": digest.of_bytes(b"y")})


def test_digest_of_the_code_is_of_names_and_bytes_alone(tmp_path):
    def of_code():
        return provenance.collect(argv=[], digests={}, code=tmp_path)["code"]["sha256"]

    (tmp_path / "a.py").write_text("one")
    first = of_code()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("compiled")
    assert of_code() == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert of_code() != first


def test_fingerprint_is_that_of_canonical_facts_and_does_not_move():
    found = hardware.facts(["cpu", "cpu"])
    canonical = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
    assert hardware.fingerprint(found) == digest.of_bytes(canonical)
    assert hardware.facts(["cpu", "cpu"]) == found
    assert found["cores"]["logical"] and found["memory_gib"] and found["devices"] == ["cpu", "cpu"]
    assert "mhz" not in json.dumps(found).lower()
    assert hardware.fingerprint(hardware.facts(["cpu"])) != hardware.fingerprint(found)


def test_variables_that_decide_numbers_are_noted_and_no_others(monkeypatch):
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("CODEX_SAFETY_AUDIT_KEY", "s3cr")
    found = provenance.collect(argv=[], digests={}, code=Path(__file__).parent)["environment"]
    assert (found["JAX_DEFAULT_MATMUL_PRECISION"], found["NVIDIA_TF32_OVERRIDE"]) == ("highest", "0")
    assert "s3cr" not in json.dumps(found) and "PATH" not in found


def test_packages_are_listed_once_with_their_version():
    names = [line.partition("==")[0].lower() for line in provenance.packages()]
    assert {"numpy", "pytest", "jax"} <= set(names)
    assert names == sorted(set(names))


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
