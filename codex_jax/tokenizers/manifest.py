"""The list of a tokenizer's files with their SHA-256, written last and verified whenever the tokenizer is loaded."""

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from codex_jax import __version__, digest
from codex_jax.errors import AssetError
from codex_jax.tokenizers import beside
from codex_jax.tokenizers.tokenizer import Tokenizer, write_files


NAME = "manifest.json"


def write(directory: Path, made: Tokenizer, files: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write the manifest of `made`, saved as `files`; nothing in it depends on place or time unless `facts` do."""
    listed = {
        **facts,
        "tokenizer": made.digest,
        "files": {name: digest.of_file(directory / name) for name in files},
        "versions": versions(),
    }
    write_files(directory, {NAME: json.dumps(listed, indent=2, sort_keys=True).encode() + b"\n"})


def read(directory: Path) -> dict[str, Any]:
    """Return the manifest of a tokenizer, {} when there is none: another program's manifest.json is not ours.

    AssetError when it lists something else than files of its own directory.
    """
    listed = beside.read(directory / NAME)
    files = listed.get("files")
    if not isinstance(files, dict) or "tokenizer" not in listed:
        return {}
    if wrong := [name for name, sha256 in files.items() if Path(name).name != name or not isinstance(sha256, str)]:
        raise AssetError(f"{directory / NAME} lists {wrong[0]!r}, which is no file beside it with a SHA-256; remove it")
    return listed


def verify(directory: Path) -> bool:
    """Return whether there is a manifest; AssetError naming the files that are not as it says."""
    listed = read(directory)
    for name, expected in listed.get("files", {}).items():
        path = directory / name
        found = digest.of_file(path) if path.is_file() else "not there"
        if found != expected:
            raise AssetError(
                f"{path} differs from {NAME} beside it: SHA-256 is {found[:12]}, expected {expected[:12]}; "
                f"restore it, or remove {NAME} if the change is meant"
            )
    return bool(listed)


def versions() -> dict[str, str]:
    """Return the versions of what decides how a tokenizer comes out."""
    found = {"codex_jax": __version__}
    for package in ("sentencepiece", "tokenizers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
