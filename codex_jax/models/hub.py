"""The Hugging Face hub: what a repository holds at a commit, and its files one by one; the only module that asks it.

`huggingface_hub` knows addresses, tokens and answers. Its own downloads are not used: they take a file from a cache
where the hub does not answer, keep nothing of one that broke off, and write as much as a server sends.
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from codex_jax import __version__
from codex_jax.errors import AssetError, ConfigError


# Of a file, one after the other without a byte more.
_TRIES = 3
PAUSE_SECS = 1.0
_MAY_PASS = (408, 429, 500, 502, 503, 504)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Unfinished(AssetError):
    """The hub did not send all, or not what it states: what is kept of it is good, and the same command goes on."""


class Listed(NamedTuple):
    """A file, as the hub states it."""

    name: str
    size: int
    algorithm: str
    """sha256 of large files, git of the others: the SHA-1 of their size and content"""
    digest: str


def endpoint() -> str:
    """Return the address of the hub; ConfigError when what is read there could be changed on the way."""
    found = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    address = urlsplit(found)
    if "@" in address.netloc:
        raise ConfigError("HF_ENDPOINT has a login in it, which would be written down: HF_TOKEN is the place for one")
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
        raise ConfigError(f"HF_ENDPOINT={found} must begin with https://: the hashes of all files come from there")
    return found


def refuse_offline() -> None:
    """Raise ConfigError where a variable says that there is no network."""
    yes = ("1", "on", "yes", "true")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "CODEX_ALLOW_NETWORK"):
        value = os.environ.get(name, "")
        if value not in ("", "1") if name == "CODEX_ALLOW_NETWORK" else value.lower() in yes:
            raise ConfigError(f"{name}={value} says that there is no network, and a download needs it: unset it")


def commit_of(repository: str, branch: str) -> str:
    """Return the commit that a branch, a tag or the beginning of a commit stands for now."""
    return _information(repository, branch)[0]


def listing(repository: str, commit: str) -> dict[str, Listed]:
    """Return the files of a repository by name; AssetError when one has a name, a size or a hash that cannot be."""
    found, siblings = _information(repository, commit)
    if found != commit:
        raise AssetError(f"{endpoint()} answers with commit {found} where {commit} of {repository} was asked for")
    listed = [_listed(repository, one) for one in siblings]
    if len({one.name for one in listed}) != len(listed):
        raise AssetError(f"{repository} lists a file twice; nothing was fetched")
    return {one.name: one for one in listed}


def fetch(repository: str, commit: str, file: Listed, path: Path, progress: Callable[[int], None]) -> None:
    """Bring a file to `path`, beginning where an earlier try ended; `progress` is told the bytes that are there.

    Raises Unfinished when it breaks off, and when it is not what the hub states: then nothing of it is left.
    """
    if path.exists() and _is(file, path):
        return
    from huggingface_hub import hf_hub_url

    part = path.with_name(path.name + ".part")
    url = hf_hub_url(repository, file.name, revision=commit, endpoint=endpoint())
    with _asking(f"{file.name} of {repository} at {commit}"):
        _bring(url, file, part, progress)
    if not _is(file, part):
        part.unlink()
        raise Unfinished(
            f"{file.name} of {repository} came with other bytes than the hub states ({file.algorithm} {file.digest}), "
            "and was removed; run the same command again to fetch it once more"
        )
    os.replace(part, path)


def close() -> None:
    """Close the connections."""
    import huggingface_hub

    huggingface_hub.close_session()


def _information(repository: str, revision: str) -> tuple[str, list[Any]]:
    """Return the commit of a revision, and what the hub says of its files."""
    from huggingface_hub import HfApi, errors

    with _asking(f"{repository} at {revision}"):
        try:
            found = HfApi(endpoint=endpoint()).model_info(
                repository, revision=revision, files_metadata=True, timeout=_seconds(), token=_token() or False
            )
        except errors.HfHubHTTPError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise AssetError(f"{endpoint()} does not answer as a hub does: {error!r:.200}") from error
    if not re.fullmatch("[0-9a-f]{40}", str(found.sha)):
        raise AssetError(f"{endpoint()} names no commit of {repository}, but {found.sha!r:.80}")
    return str(found.sha), list(found.siblings or [])


def _listed(repository: str, one: Any) -> Listed:
    name, size, digest = (
        one.rfilename,
        one.lfs.size if one.lfs else one.size,
        one.lfs.sha256 if one.lfs else one.blob_id,
    )
    plain = isinstance(name, str) and name.isprintable() and "\\" not in name and not name.startswith("/")
    if not plain or ".." in PurePosixPath(name).parts:
        raise AssetError(
            f"{repository} lists a file {name!r:.80}, which leads out of its directory; nothing was fetched"
        )
    if type(size) is not int or size < 0 or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", str(digest)):
        raise AssetError(f"{repository} states no size or no hash of {name!r:.80}; nothing was fetched")
    return Listed(name, size, "sha256" if one.lfs else "git", str(digest))


def _bring(url: str, file: Listed, part: Path, progress: Callable[[int], None]) -> None:
    """Write a whole file, asking again for the rest of it when the connection ends early."""
    import httpx2
    from huggingface_hub import errors

    tries = _TRIES
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _append(url, file, part, progress)
            return
        except (httpx2.TransportError, errors.HfHubHTTPError) as error:
            if isinstance(error, errors.HfHubHTTPError) and error.response.status_code not in _MAY_PASS:
                raise
            tries = _TRIES if part.exists() and part.stat().st_size > before else tries - 1
            if not tries:
                raise
        time.sleep(PAUSE_SECS)


def _append(url: str, file: Listed, part: Path, progress: Callable[[int], None]) -> None:
    import httpx2
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    have = part.stat().st_size if part.exists() else 0
    if have >= file.size:
        part.touch()
        return
    headers = {**_headers(), "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with get_session().stream("GET", url, headers=headers, timeout=_seconds()) as answer:
        hf_raise_for_status(answer)
        have = have if answer.status_code == 206 else 0  # 200: all of it, though the rest was asked for
        with open(part, "ab" if have else "wb") as written:
            for block in answer.iter_bytes():  # as they come: blocks of a size would be lost when it breaks off
                have += len(block)
                if have > file.size:
                    part.unlink()
                    raise Unfinished(f"{file.name} is larger than the {file.size:,} bytes that the hub states: removed")
                written.write(block)
                progress(have)
    if have < file.size:
        raise httpx2.RemoteProtocolError(f"it ended after {have:,} of {file.size:,} bytes")


def _is(file: Listed, path: Path) -> bool:
    """Whether a file is what the hub states."""
    if path.stat().st_size != file.size:
        return False
    made = hashlib.sha256() if file.algorithm == "sha256" else hashlib.sha1(f"blob {file.size}\0".encode())
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, lambda: made).hexdigest() == file.digest


def _seconds() -> float:
    """Return how long the hub may be silent."""
    text = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"HF_HUB_DOWNLOAD_TIMEOUT={text} is no number of seconds")
    return float(text)


def _token() -> str:
    """Return HF_TOKEN; no other place is looked at."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not re.fullmatch(r"[!-~]*", token):
        raise ConfigError("HF_TOKEN has characters that no token has; copy it again")
    return token


def _headers() -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers(token=_token() or False, library_name="codex-jax", library_version=__version__)


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn what goes wrong with a request into an error that says what to do; of a token nothing is repeated."""
    import httpx2
    from huggingface_hub import constants, errors

    # Else a request for a list of programs that may have started this one goes before the first, and torch is named.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    except errors.HfHubHTTPError as error:
        raise _refused(what, error.response.status_code) from error
    except httpx2.RequestError as error:
        kind = "is silent" if isinstance(error, httpx2.TimeoutException) else "cannot be reached, or broke off"
        raise Unfinished(
            f"{endpoint()} {kind} ({type(error).__name__}) while asked for {what}; run the same command again to go on"
        ) from error


def _refused(what: str, status: int) -> AssetError:
    if status in _MAY_PASS:
        return Unfinished(f"{endpoint()} answers {status} when asked for {what}; run the same command later to go on")
    if status in (401, 403):
        how = "HF_TOKEN may not read it" if _token() else "HF_TOKEN is not set"
        return AssetError(
            f"{endpoint()} gives no access ({status}) to {what}: there is none of that name, or it is private or wants "
            f"its licence accepted on its page, and {how}"
        )
    return AssetError(f"{endpoint()} has no {what} ({status}): look at the name and the commit on its page")
