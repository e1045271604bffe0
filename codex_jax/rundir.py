"""The directory of a run: one process at a time, and one identity."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from codex_jax import atomic
from codex_jax.errors import AssetError, ConfigError


# A network file system may hide a new file for this long from a host that looked before.
SHARED_SECS = 30.0


@contextlib.contextmanager
def claim(workdir: Path) -> Iterator[None]:
    """Hold a directory; ConfigError when another process has it. The kernel frees it however its owner dies.

    A directory that was made for a start that was then refused is removed again.
    """
    is_new = not workdir.exists()
    with _open_lock(workdir) as lock:
        _lock(lock, workdir)
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same; only the owner's name is lost
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n".encode())
        try:
            yield
        finally:
            if is_new and [path.name for path in workdir.iterdir()] == [".lock"]:
                (workdir / ".lock").unlink()
                workdir.rmdir()


def check_shared(workdir: Path, owner: int) -> None:
    """Raise AssetError unless this process sees the directory that the process `owner` holds, here or elsewhere."""
    deadline = time.monotonic() + SHARED_SECS
    while True:
        with contextlib.suppress(OSError):
            if (workdir / ".lock").read_text().strip() == str(owner):
                return
        if time.monotonic() > deadline:
            raise AssetError(
                f"{workdir} is not the directory that process 0 has: name one in --workdir that all hosts share"
            )
        time.sleep(0.1)


def _lock(lock: FileIO, workdir: Path) -> None:
    lock.seek(0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = lock.read().decode(errors="replace").strip() or "?"
        raise ConfigError(
            f"process {owner} is training in {workdir}; wait for it or choose another --workdir"
        ) from None
    except OSError as error:
        raise AssetError(
            f"{workdir} is on a file system without locks ({error.strerror}), so two trainers could not be kept apart; "
            "choose another --workdir"
        ) from error
    if os.fstat(lock.fileno()).st_nlink == 0:
        # Its directory was removed between our opening and our locking it: nobody else would meet this lock.
        raise ConfigError(f"{workdir} was just removed by another start that was refused; run the command again")


def _open_lock(workdir: Path) -> FileIO:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        return open(workdir / ".lock", "ab+", buffering=0)  # a buffer would be written once more when it is closed
    except OSError as error:
        files = [path for path in (workdir, *workdir.parents) if path.is_file()]
        reason = f"{files[0]} is a file, not a directory" if files else error.strerror
        raise AssetError(f"{workdir} cannot be written ({reason}); choose another --workdir") from error


def identify(workdir: Path, resumed: Mapping[str, Any] | None) -> str:
    """Return the run id: the one of the run that is resumed, or of config.json, `CODEX_RUN_ID`, or a new one.

    `resumed` is the meta of the checkpoint to go on from. AssetError when there is none and config.json is damaged.
    """
    path = workdir / "config.json"
    if resumed is not None:
        return str(resumed["run_id"])
    if path.exists():
        return _read_run_id(path)
    fresh = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    return os.environ.get("CODEX_RUN_ID") or fresh


def begin(workdir: Path, run_id: str, settings: Mapping[str, Any], origin: Mapping[str, str]) -> None:
    """Write config.json. Call it when nothing of the settings can be refused any more: they may differ from before."""
    write_json(workdir / "config.json", {"run_id": run_id, "settings": settings, "origin": dict(origin)})


def _read_run_id(path: Path) -> str:
    try:
        return str(_read(path)["run_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(
            f"{path} is damaged ({type(error).__name__}: {error}), and no checkpoint says which run this is; "
            "remove it, or choose another --workdir"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """Return what a config.json holds; AssetError when it is that of a model, which has the same name."""
    found = dict(json.loads(path.read_text(encoding="utf-8")))
    if "run_id" not in found and "model_type" in found:
        raise AssetError(
            f"{path.parent} is no run: its config.json describes a model, of family {found['model_type']!r:.40}; name "
            "weights in --config.model.weights, and in --workdir a directory for the run itself"
        )
    return found


def read_settings(workdir: Path) -> dict[str, Any]:
    """Return the settings that config.json holds, nested; AssetError when it is not there or damaged."""
    path = workdir / "config.json"
    try:
        return dict(_read(path)["settings"])
    except FileNotFoundError:
        raise AssetError(f"{workdir} is not the directory of a run: it has no config.json") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def read_record(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file of a run holds, {} where there is none; AssetError when it is damaged."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise AssetError(f"{path} is damaged: {error}. Move it away to go on without it") from None
    if not isinstance(value, dict):
        raise AssetError(f"{path} is damaged: it holds no object. Move it away to go on without it")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with atomic.replacing(path) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
