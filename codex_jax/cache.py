"""Where things that can be made again are kept: trained tokenizers, compiled programs, the peak of a CPU."""

import os
from pathlib import Path

from codex_jax.errors import AssetError


def root() -> Path:
    """Return $CODEX_CACHE_DIR, else $XDG_CACHE_HOME/codex_jax, else ~/.cache/codex_jax; it need not exist yet."""
    if own := os.environ.get("CODEX_CACHE_DIR"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "codex_jax"


def directory(name: str) -> Path:
    """Return the part of the cache of that name, made if needed; AssetError when it cannot be written."""
    path = root() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(
            f"the cache {path} cannot be made ({error.strerror}); name another in CODEX_CACHE_DIR"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise AssetError(f"the cache {path} cannot be written; name another in CODEX_CACHE_DIR")
    return path
