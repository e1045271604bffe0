"""Real faults for programs under test: system calls that fail, wait or kill, and what this machine cannot do."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


HERE = Path(__file__).parent
SAVER = HERE / "saver.py"


@functools.cache
def cannot_mount() -> str:
    """Return why this machine cannot give a test a disk of its own, or ''."""
    if shutil.which("unshare") is None:
        return "there is no unshare command"
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "t", "/mnt"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"unshare -rm mount -t tmpfs: {tried.stderr.strip()}"


@functools.cache
def cannot_trace() -> str:
    """Return why this machine cannot make system calls fail, or ''."""
    if shutil.which("strace") is None:
        return "there is no strace command"
    tried = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"strace: {tried.stderr.strip()}"


@functools.cache
def cannot_compile() -> str:
    """Return why this machine cannot build faulty_disk.c, or ''."""
    return "" if shutil.which("cc") else "there is no C compiler"


def traced(*rules: str, paths: Sequence[Path] = (), output: Path = Path("/dev/null")) -> list[str]:
    """Return the beginning of a command that runs under strace: `-e` rules, for calls on some paths only, if given."""
    given = [word for rule in rules for word in ("-e", rule)] + [word for path in paths for word in ("-P", str(path))]
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-o", str(output), *given]


def save(
    root: Path, first: int, last: int, *flags: str, under: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run saver.py to its end."""
    command = [*under, sys.executable, str(SAVER), str(root), str(first), str(last), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})})


def library(directory: Path) -> Path:
    """Build faulty_disk.c in a directory and return what is to be preloaded."""
    made = directory / "faulty_disk.so"
    source = HERE / "faulty_disk.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True, capture_output=True)
    return made


def acknowledged(output: str) -> list[int]:
    """Return the steps that a saver acknowledged."""
    return [int(line.split()[1]) for line in output.splitlines() if line.startswith("saved ")]
