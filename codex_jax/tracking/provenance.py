"""What a run was made with: versions, machine, code and command, as plain values without secrets."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


PACKAGES = (
    "codex-jax",
    "flax",
    "grain",
    "jax",
    "jaxlib",
    "ml-collections",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "safetensors",
    "sentencepiece",
    "tokenizers",
    "transformers",
)
# A flag whose last word is one of these: --hub_token, --api-key, wandb.apikey; not --tokenizer or num_tokens.
_SECRET = re.compile(r"(?i)(token|keys?|secrets?|passwords?|passwd|passphrase|credentials?)$")
_ASSIGNMENT = re.compile(r"[\w.-]+(?==)")
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")
MASK = "***"


def collect(*, argv: Sequence[str], digests: Mapping[str, str], code: Path) -> dict[str, Any]:
    """Return the provenance of this process; `digests` are fingerprints the caller knows (config, data, tokenizer).

    `code` is the directory of the running program, whose commit is noted where git tracks it. The values of flags that
    look like secrets are masked. Nothing is imported for its version.
    """
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "python": platform.python_implementation(),
            "cpus": os.cpu_count(),
        },
        "git": _git(code),
        "argv": mask(argv),
        "digests": dict(digests),
    }


def mask(argv: Sequence[str]) -> list[str]:
    """Return the command line with the values of flags named like secrets, and logins in URLs, replaced by ***."""
    masked: list[str] = []
    hide_next = False
    for argument in argv:
        if hide_next and not argument.startswith("--"):
            masked.append(MASK)
            hide_next = False
            continue
        masked.append(_URL_LOGIN.sub(MASK, _mask_assignment(argument)))
        hide_next = argument.startswith("-") and "=" not in argument and bool(_SECRET.search(argument))
    return masked


def _mask_assignment(argument: str) -> str:
    """Cut everything after the first NAME= that looks like a secret: its value may hold commas and equal signs."""
    for name in _ASSIGNMENT.finditer(argument):
        if _SECRET.search(name.group()):
            return f"{argument[: name.end()]}={MASK}"
    return argument


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git(code: Path) -> dict[str, Any] | None:
    """Return commit and dirty flag of the repository that tracks this directory; None when none does."""
    if shutil.which("git") is None:
        return None
    if not _ask_git(code, "ls-files", "."):  # an installed package may lie inside somebody else's repository
        return None
    commit = _ask_git(code, "rev-parse", "--verify", "HEAD")
    status = _ask_git(code, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit and commit.strip(), "dirty": None if status is None else bool(status.strip())}


def _ask_git(code: Path, *arguments: str) -> str | None:
    # A repository's own config can name a program for fsmonitor to run: asking for the status must not start it.
    command = ["git", "-C", str(code), "-c", "core.fsmonitor=false", *arguments]
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
