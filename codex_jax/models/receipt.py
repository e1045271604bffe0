"""Where a directory of weights was downloaded from: written into a file beside them, read by what tells of them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax import untrusted
from codex_jax.errors import AssetError
from codex_jax.models import weight_files


FILE = "downloaded.json"
_MOST_BYTES = 1 << 20


def write(directory: Path, values: Mapping[str, Any]) -> None:
    """Write it: repository, commit, endpoint, time, SHA-256 of every file, and that of the weights."""
    (directory / FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read(directory: Path) -> dict[str, Any]:
    """Return that of a directory, {} for one that has none; AssetError when it is damaged."""
    path = directory / FILE
    if not path.is_file():
        return {}
    try:
        found = untrusted.read_object(path, _MOST_BYTES)
        words = (
            *(found[name] for name in ("repository", "commit", "digest")),
            *found["files"],
            *found["files"].values(),
        )
        whole = all(isinstance(word, str) for word in words) and re.fullmatch("[0-9a-f]{40}", found["commit"])
    except (AssetError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise AssetError(f"{path} is damaged; remove it, or download the model again")
    return found


def published(directory: Path, digest: str) -> dict[str, str]:
    """Return repository and commit of the weights of a directory; {} when nothing says so, or they changed."""
    found = read(directory)
    return {name: found[name] for name in ("repository", "commit")} if found.get("digest") == digest else {}


def check(directory: Path) -> None:
    """Raise AssetError when a file is not the one that was downloaded."""
    for name, sha256 in read(directory).get("files", {}).items():
        path = directory / Path(name).name
        if not path.is_file() or weight_files.of_file(path) != sha256:
            raise AssetError(
                f"{path} is not the file that was downloaded, whose SHA-256 is {sha256}: download the model again; if "
                f"it was changed on purpose, remove {directory / FILE}"
            )
