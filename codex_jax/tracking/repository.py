"""What git says of the running code: its commit, and all in which the files differ from that."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax import digest


ASK_SECS = 20
# A repository's own config can name programs that show a change, or watch its files: asking must not start them.
_TRUSTED = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
_DIFF = ("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=none", "--")


class Cut(NamedTuple):
    """The beginning of a text, and how many bytes it has as a whole."""

    text: str
    num_bytes: int


def state(code: Path) -> dict[str, Any] | None:
    """Return the commit of the repository that tracks this directory, and whether files differ; None when none does.

    Files that git neither tracks nor ignores count where they are code: they are listed with their SHA-256.
    """
    if shutil.which("git") is None:
        return None
    if not _ask(code, "ls-files", "."):  # an installed package may lie inside somebody else's repository
        return None
    commit = _ask(code, "rev-parse", "--verify", "HEAD")
    status = _ask(code, "status", "--porcelain", "--untracked-files=no")
    untracked = _untracked(code)
    dirty = None if status is None else bool(status.strip() or untracked)
    return {"commit": commit and commit.strip(), "dirty": dirty, "untracked": untracked}


def diff(code: Path, most_bytes: int) -> Cut | None:
    """Return what `git diff HEAD` says of the whole repository, at most so many bytes; None when it says nothing."""
    command = ["git", "-C", str(code), *_TRUSTED, *_DIFF]
    try:
        # Into a file: what somebody has changed may be larger than the memory.
        with tempfile.TemporaryFile() as found:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=found, stderr=subprocess.DEVNULL, timeout=ASK_SECS, env=_env()
            )
            num_bytes = found.seek(0, os.SEEK_END)
            found.seek(0)
            text = found.read(most_bytes).decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Cut(text, num_bytes) if done.returncode == 0 and num_bytes else None


def _untracked(code: Path) -> dict[str, str]:
    names = (_ask(code, "ls-files", "--others", "--exclude-standard", "-z", ".") or "").split("\0")
    files = [name for name in names if name and (code / name).is_file()]
    return {name: digest.of_file(code / name) for name in sorted(files)}


def _ask(code: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(code), *_TRUSTED, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_SECS,
            env=_env(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None


def _env() -> dict[str, str]:
    return {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}
