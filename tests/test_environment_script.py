"""The shell code that scripts/train and scripts/test share: which Python it takes, and when it makes .venv anew."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parent.parent
WORKS = f'exec {sys.executable} "$@"'
SHIM = "echo 'pyenv: python3: command not found' >&2; exit 127"
# Real interpreters with something amiss: they run the question they are asked ($3) after a change.
AMISS = f"exec {sys.executable} -c 'import sys; {{change}}; exec(sys.argv[1])' \"$3\""
OLD = AMISS.format(change="sys.version_info = (3, 10, 13)")
NEW = AMISS.format(change="sys.version_info = (3, 14, 0)")
NO_VENV = AMISS.format(change='sys.modules["ensurepip"] = None')
TOOLS = ("cat", "dirname", "flock", "head", "mktemp", "rm", "sed", "sha256sum", "tail")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the files an environment is made from, and a PATH without any Python."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "codex_jax").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("scripts/environment.sh", "codex_jax/__init__.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def add_python(checkout: Path, name: str, body: str) -> Path:
    path = checkout / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def shell(checkout: Path, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash is not None
    script = f"set -euo pipefail; source {checkout}/scripts/environment.sh; {code}"
    clean = {"PATH": str(checkout / "bin"), "HOME": os.environ["HOME"], **env}
    return subprocess.run([bash, "-c", script, "train"], env=clean, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        ({"python3.13": WORKS, "python3.12": WORKS, "python3.11": WORKS}, "python3.13"),
        ({"python3.13": SHIM, "python3.12": SHIM, "python3.11": WORKS}, "python3.11"),
        ({"python3.12": NO_VENV, "python3.11": WORKS}, "python3.11"),
        ({"python3": WORKS}, "python3"),
    ],
)
def test_newest_working_python_is_taken(checkout: Path, found: dict[str, str], taken: str) -> None:
    for name, body in found.items():
        add_python(checkout, name, body)
    done = shell(checkout, "find_python; echo $base_python")
    assert done.stdout == f"{taken}\n", done.stderr


def test_no_working_python_is_one_message_with_every_reason(checkout: Path) -> None:
    add_python(checkout, "python3.13", SHIM)
    add_python(checkout, "python3", OLD)
    done = shell(checkout, "find_python")
    assert done.returncode == 2
    assert "python3.13: pyenv: python3: command not found" in done.stderr
    assert "python3.12: not found" in done.stderr
    assert "python3: is version " in done.stderr


@pytest.mark.parametrize("body", [SHIM, OLD, NEW, NO_VENV, "exit 1"])
def test_python_named_by_the_user_is_never_replaced_by_another(checkout: Path, body: str) -> None:
    add_python(checkout, "python3.11", WORKS)
    broken = add_python(checkout, "broken", body)
    done = shell(checkout, "ensure_environment", PYTHON=str(broken))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"PYTHON={broken} is not a working Python" in done.stderr


STAMP = (
    'v=$("$python" -c "import platform; print(platform.python_version())"); packages_stamp $v >"$venv/packages.stamp"; '
)
FRESH = "if is_fresh; then echo fresh; else echo stale; fi"


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (":", "fresh"),
        ('echo >>"$root/requirements.lock"', "stale"),
        ('rm "$venv/packages.stamp"', "stale"),
        ('rm "$python"; ln -s /nowhere/python "$python"', "stale"),
        ('cat "$venv/packages.stamp" | sed s/at/elsewhere/ >s; mv s "$venv/packages.stamp"', "stale"),
    ],
)
def test_environment_is_stale_when_what_it_was_made_from_changes(checkout: Path, change: str, answer: str) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    shutil.copy(add_python(checkout, "python-of-venv", WORKS), checkout / ".venv/bin/python")
    for tool in ("ln", "mv"):
        (checkout / "bin" / tool).symlink_to(shutil.which(tool) or "")
    done = shell(checkout, f'cd "$root"; {STAMP}{change}; {FRESH}')
    assert done.stdout == f"{answer}\n", done.stderr


def test_environment_is_stale_for_another_version_named_by_the_user(checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    shutil.copy(add_python(checkout, "python-of-venv", WORKS), checkout / ".venv/bin/python")
    other = add_python(checkout, "other", "echo 3.12.77")
    assert shell(checkout, STAMP + FRESH, PYTHON=str(other)).stdout == "stale\n"
    assert shell(checkout, STAMP + FRESH, PYTHON=sys.executable).stdout == "fresh\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=3", "glibc.malloc.check=3:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_malloc_is_asked_for_huge_pages_unless_the_user_says_otherwise(checkout: Path, before: str, after: str) -> None:
    # The variable is set inside bash: the C library of bash itself would read it otherwise.
    assert shell(checkout, f"GLIBC_TUNABLES={before}; prepare_cpu; echo $GLIBC_TUNABLES").stdout == f"{after}\n"
