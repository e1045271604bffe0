"""The weight files of a directory: which there are, whether they may be read, and what tensors are in them."""

import functools
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax import digest as digests
from codex_jax import untrusted
from codex_jax.errors import AssetError
from codex_jax.models import flax_file, safetensors_file
from codex_jax.models.stored import Stored


SINGLE, INDEX, FLAX = "model.safetensors", "model.safetensors.index.json", "flax_model.msgpack"
# They can hold programs that run when they are opened. None is.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".npy", ".npz", ".pkl", ".pickle", ".joblib", ".h5")
_MOST_INDEX_BYTES = 4 << 20
_ACCEPTED = f"a directory with {SINGLE}, {INDEX} and its files, or {FLAX}"


def tensors(directory: Path) -> dict[str, Stored]:
    """Return every tensor of a directory by its name as transformers has it in torch; no value is read.

    Raises AssetError when there are no weight files that may be read, or one does not hold together.
    """
    kind, names = _kind(directory), {}
    if kind == INDEX:
        names = index(directory / INDEX)
    files = sorted(set(names.values())) if names else [kind]
    found: dict[str, Stored] = {}
    for file in files:
        read = flax_file.tensors if kind == FLAX else safetensors_file.tensors
        part = read(checked(directory, file))
        if twice := sorted(found.keys() & part.keys()):
            raise AssetError(f"{directory}: {len(twice)} tensors are in several files, {twice[0]!r:.80} among them")
        found |= part
    if names:
        _check_index(directory, names, found)
    return found


def files(directory: Path) -> list[Path]:
    """Return the weight files of a directory, each checked to be a file of its own."""
    kind = _kind(directory)
    names = sorted(set(index(directory / INDEX).values())) if kind == INDEX else [kind]
    return [checked(directory, name) for name in names]


def digest(directory: Path) -> str:
    """Return a SHA-256 over names and contents of the weight files; each file is read once a process."""
    return digests.of_json({path.name: of_file(path) for path in files(directory)})


def compare(directory: Path, known: Mapping[str, str], name: str) -> None:
    """Raise AssetError unless a directory has the weights that are known by the SHA-256 of their files.

    Files beside the weights are compared where there are any. Nothing is asked of a model of which nothing is known.
    """
    if not known:
        return
    there = {path.name for path in files(directory)}
    if strange := sorted(there - set(known)):
        weights = ", ".join(file for file in known if file.endswith((".safetensors", ".msgpack")))
        raise AssetError(
            f"{directory / strange[0]} is none of the files that the catalogue knows as {name}'s, whose weights are in "
            f"{weights}; to take it as it is name the directory, not {name}"
        )
    for file, sha256 in known.items():
        path = directory / file
        if (file in there or path.exists()) and (found := of_file(path)) != sha256:
            raise AssetError(
                f"{path} is not the file that the catalogue knows as {name}'s: it has the SHA-256 {found}, and not "
                f"{sha256}; fetch it again, or to take it as it is name the directory, not {name}"
            )


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, from memory when its size and time are as they were."""
    found = path.stat()
    return _of_file(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _of_file(path: Path, _size: int, _time: int) -> str:
    return digests.of_file(path)


def _kind(directory: Path) -> str:
    """Return the name of the file that decides how a directory is read."""
    if directory.is_file() or directory.suffix in PICKLES:
        refused = ", which can hold programs and is never opened" if directory.suffix in PICKLES else ""
        raise AssetError(f"{directory} is a file{refused}: name {_ACCEPTED}")
    if not directory.is_dir():
        raise AssetError(f"{directory} is no directory: name {_ACCEPTED}")
    found = [name for name in (SINGLE, INDEX, FLAX) if os.path.lexists(directory / name)]
    if {SINGLE, INDEX} <= set(found):
        raise AssetError(f"{directory} has both {SINGLE} and {INDEX}: remove the one that does not belong to it")
    if found:
        return found[0]
    unsafe = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLES)
    if unsafe:
        raise AssetError(
            f"{directory} has its weights in {', '.join(unsafe[:3])} only: such files can hold programs, so they are "
            f"never opened. Fetch {SINGLE} from the same place, or let whoever trusts the file write one with "
            "transformers: AutoModelForCausalLM.from_pretrained(DIRECTORY).save_pretrained(OTHER)"
        )
    raise AssetError(f"{directory} holds no weights: name {_ACCEPTED}")


def index(path: Path) -> dict[str, str]:
    """Return which file holds each tensor; AssetError when it is no index, or names a file that is not beside it."""
    try:
        names = untrusted.read_object(path, _MOST_INDEX_BYTES)["weight_map"]
        wrong = [name for name in names.values() if not _is_plain(name)]
    except (KeyError, AttributeError, OSError) as error:
        raise AssetError(f"{path} is not the index of safetensors files ({error!r:.200})") from error
    if wrong:
        raise AssetError(f"{path} names {wrong[0]!r:.80}, which is no .safetensors file beside it; nothing was read")
    if not names:
        raise AssetError(f"{path} names no tensor")
    return dict(names)


def _is_plain(name: Any) -> bool:
    return (
        isinstance(name, str)
        and name.endswith(".safetensors")
        and len(name) < 256
        and name.isprintable()
        and not set("/\\") & set(name)
    )


def checked(directory: Path, name: str) -> Path:
    """Return the path of a file of a directory; AssetError unless it is a file that lies in the directory itself.

    One link out is known: in the cache of the Hugging Face hub, files of a snapshot are links to its blobs.
    """
    path = directory / name
    try:
        real = path.resolve(strict=True)
        kind = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise AssetError(f"{path} is not there, or cannot be read ({error})") from error
    home = directory.resolve()
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if real.parent not in (home, blobs):
        raise AssetError(f"{path} is a link to {real}, outside of its directory; put the file itself there")
    if not stat.S_ISREG(kind):
        raise AssetError(f"{path} is no regular file")
    return path


def _check_index(directory: Path, names: dict[str, str], found: dict[str, Stored]) -> None:
    wrong = [
        f"{name!r:.80} is not in {file}"
        for name, file in names.items()
        if name not in found or found[name].path.name != file
    ]
    wrong += [
        f"{name!r:.80} of {one.path.name} is not in the index" for name, one in found.items() if name not in names
    ]
    if wrong:
        more = f"\n  and {len(wrong) - 20} more" if len(wrong) > 20 else ""
        raise AssetError(f"{directory / INDEX} and its files differ:\n  " + "\n  ".join(wrong[:20]) + more)
