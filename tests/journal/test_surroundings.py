"""What a process writes down of code, packages, machine and jax; in processes of their own, with copies of the code."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codex_jax import digest


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parents[2]
WRITE = """
import sys
from pathlib import Path
from codex_jax import config
from codex_jax.journal import surroundings
from codex_jax.safety import gate
surroundings.DIFF_BYTES = int(sys.argv[1])
settings = config.Config(run=config.Run(seed=7))
Path("run").mkdir(exist_ok=True)
print(surroundings.write(Path("run"), settings, gate.of(settings.safety), {"config": "ab" * 32}))
"""
SECRET = "AKIA" + "QYLPMN5HFIQR7XYA"


def write(code: Path, main_env: Mapping[str, str], most_bytes: int = 100_000, **variables: str) -> dict[str, Any]:
    """Write to `run` beside the code what a process makes of it, and return provenance.json."""
    env = {**main_env, "PYTHONPATH": str(code), **variables}
    command = [sys.executable, "-c", WRITE, str(most_bytes), f"--hub-token={SECRET}"]
    done = subprocess.run(command, cwd=code, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout
    found: dict[str, Any] = json.loads((code / "run" / "provenance.json").read_text())
    return found


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with a copy of the package, as committed."""
    directory = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "codex_jax", directory / "codex_jax", ignore=shutil.ignore_patterns("__pycache__"))
    (directory / ".gitignore").write_text("run/\n__pycache__/\n")
    git(directory, "init", "-q")
    git(directory, "add", ".")
    git(directory, "commit", "-qm", "one")
    return directory


def test_dirty_tree_is_written_down_without_its_secrets(checkout: Path, main_env: dict[str, str]) -> None:
    with open(checkout / "codex_jax" / "__init__.py", "a") as file:
        file.write(f'KEY = "{SECRET}"\n')
    found = write(checkout, main_env)
    diff = (checkout / "run" / "dirty.diff").read_bytes()
    assert found["git"]["dirty"] is True
    assert found["git"]["diff"]["sha256"] == digest.of_bytes(diff)
    assert found["git"]["diff"]["redacted"] is True and found["git"]["diff"]["cut"] is False
    assert b"+KEY = " in diff and b"[REDACTED:" in diff
    for path in (checkout / "run").iterdir():
        assert SECRET.encode() not in path.read_bytes(), path

    cut = write(checkout, main_env, most_bytes=100)
    text = (checkout / "run" / "dirty.diff").read_text()
    assert cut["git"]["diff"]["cut"] is True
    assert len(text) < 250 and "\n# cut here: git diff HEAD has " in text
    git(checkout, "checkout", "-q", "codex_jax")
    clean = write(checkout, main_env)
    assert (clean["git"]["dirty"], clean["git"]["diff"]) == (False, None)
    assert clean["git"]["commit"] == found["git"]["commit"]
    assert found["code"]["sha256"] != clean["code"]["sha256"]
    assert found["hardware"] == clean["hardware"]
    assert not (checkout / "run" / "dirty.diff").exists()


def test_files_are_there_and_hold_what_jax_computes_with(checkout: Path, main_env: dict[str, str]) -> None:
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_DEFAULT_PRNG_IMPL": "rbg"}
    found = write(checkout, main_env, JAX_DEFAULT_MATMUL_PRECISION="highest", JAX_ENABLE_X64="0", **flags)
    jax = found["jax"]
    assert jax["backend"] == "cpu" and len(jax["devices"]) == 2
    assert jax["default_matmul_precision"] == "highest"
    assert (jax["enable_x64"], jax["default_prng_impl"]) == (False, "rbg")
    assert isinstance(jax["threefry_partitionable"], bool)
    assert found["environment"]["XLA_FLAGS"].endswith("device_count=2")
    assert all(found["versions"][name] for name in ("jax", "jaxlib", "flax", "optax", "python"))
    assert found["seeds"] == {"run": 7, "data": 7}
    assert found["digests"] == {"config": "ab" * 32}
    assert found["argv"][-1] == "--hub-token=***"
    facts = {name: value for name, value in found["hardware"].items() if name != "fingerprint"}
    assert found["hardware"]["fingerprint"] == digest.of_json(facts)
    listed = (checkout / "run" / "packages.txt").read_bytes()
    assert found["packages"] == {"file": "packages.txt", "sha256": digest.of_bytes(listed)}
    assert b"\njax==" in listed


def test_full_disk_for_the_diff_is_no_reason_to_end(checkout: Path, main_env: dict[str, str]) -> None:
    """The record says that the file is not there."""
    with open(checkout / "codex_jax" / "__init__.py", "a") as file:
        file.write("CHANGED = 1\n")
    (checkout / "run" / "dirty.diff").mkdir(parents=True)
    found = write(checkout, main_env)
    assert found["git"]["diff"]["sha256"] is None and found["git"]["dirty"] is True
    (checkout / "run" / "dirty.diff").rmdir()
    git(checkout, "checkout", "-q", "codex_jax")
