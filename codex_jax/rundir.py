"""The directory of a run: one process at a time, one identity, and settings that may not change on the way."""

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codex_jax import atomic, config, schema
from codex_jax.errors import AssetError, ConfigError


# What may differ between the processes that make up one run. All else decides its numbers.
MAY_CHANGE = (
    r"^(eval|generate|tracking|checkpoint|parallel)\.",
    r"^train\.log_every$",
    r"^data\.(workers|prefetch_batches|max_quarantined)$",
)


@contextlib.contextmanager
def claim(workdir: Path) -> Iterator[None]:
    """Hold a directory; ConfigError when another process has it. The kernel frees it when its owner dies, however it dies."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / ".lock", "a+")
    except OSError as error:
        raise AssetError(f"{workdir} cannot be written ({error.strerror}); choose another --workdir") from error
    with lock:
        lock.seek(0)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = lock.read().strip() or "?"
            raise ConfigError(
                f"process {owner} is training in {workdir}; wait for it or choose another --workdir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def begin(workdir: Path, settings: config.Config, origin: Mapping[str, str], resumed: Mapping[str, Any] | None) -> str:
    """Write config.json and return the run id: the one of the run that is resumed, `CODEX_RUN_ID`, or a new one.

    `resumed` is the meta of the checkpoint to go on from; ConfigError lists every setting that differs from it.
    """
    if resumed is not None:
        refuse_changes(resumed["settings"], config.to_dict(settings), workdir)
    path = workdir / "config.json"
    known = json.loads(path.read_text())["run_id"] if path.exists() else ""
    fresh = os.environ.get("CODEX_RUN_ID") or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    run_id = resumed["run_id"] if resumed is not None else known or fresh
    write_json(path, {"run_id": run_id, "settings": config.to_dict(settings), "origin": dict(origin)})
    return run_id


def meta(run_id: str, settings: config.Config) -> dict[str, Any]:
    """Return what a checkpoint must carry for `begin` to know the run again."""
    return {"run_id": run_id, "settings": config.to_dict(settings)}


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], workdir: Path) -> None:
    """Raise ConfigError naming every setting that decides numbers and is not as the checkpoint has it."""
    old, new = dict(schema.flatten(before)), dict(schema.flatten(now))
    changed = [
        f"  {name}: {old.get(name)!r} in the checkpoint, {new.get(name)!r} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not any(re.search(pattern, name) for pattern in MAY_CHANGE)
    ]
    if changed:
        raise ConfigError(
            f"{workdir} holds a run with other settings; choose another --workdir, or set them back:\n"
            + "\n".join(changed)
        )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with atomic.replacing(path) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
