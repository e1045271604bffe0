"""A model from the hub to a directory that is there whole or not at all: pinned, compared, and written down."""

import contextlib
import datetime
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from codex_jax import amounts, atomic, config
from codex_jax.errors import AssetError, CodexError, ConfigError, TrainingStopped
from codex_jax.models import build, catalogue, hub, origin, receipt, weight_files
from codex_jax.models.hub import Listed


_COMMIT = re.compile("[0-9a-f]{40}")
_OF = "downloading.json"
# Beside the weights this project reads these, and so does transformers; programs and pickles are not among them.
_BESIDE = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "sentence_bert_config.json",  # how long a text an encoder was trained for
)
_CONFIG = "config.json"
_MOST_BYTES: Mapping[str, int] = {_CONFIG: 1 << 20, weight_files.INDEX: 4 << 20}
# The largest tokenizer.json of the catalogue, Gemma's, has 33 MB.
_MOST_BESIDE = 128 << 20
# Of a parameter: float32, and as much again for a head that is stored though it is the embedding, and for headers.
_PARAMETER_BYTES = 8
_SPARE_BYTES = 64 << 20


class Source(NamedTuple):
    """What is to be fetched."""

    alias: str
    """of the catalogue; '' where the repository itself was asked for"""
    repository: str
    commit: str
    place: Path
    """where the model is looked for first"""
    files: Mapping[str, str]
    """SHA-256 by name, of those that the catalogue knows"""


def source(name: str, revision: str) -> Source:
    """Return what an alias of the catalogue, or owner/name on the hub, stands for at a commit.

    ConfigError for a name that is not known, and without a commit: a branch moves, so that the same command would bring
    other weights later. The error tells where the branch is now.
    """
    repository, known = name, None
    files: Mapping[str, str] = {}
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name, re.ASCII):
        known = catalogue.entry(name)
        if known.hub is None:
            raise ConfigError(f"the catalogue names no place where {name} is published: write owner/name of one")
        repository, files = known.hub.id, known.files
    commit = revision or (known.hub.revision if known and known.hub else "")
    place = origin.first_place(known.directory if known else name.split("/")[1], known.variable if known else "")
    hub.refuse_offline()
    if not _COMMIT.fullmatch(commit):
        raise _unpinned(name, repository, commit)
    return Source(name if known else "", repository, commit, place, files)


def _unpinned(name: str, repository: str, revision: str) -> ConfigError:
    asked = revision or "main"
    said = f"--revision={revision} is no commit" if revision else f"no commit is pinned for {name}"
    return ConfigError(
        f"{said} (40 hexadecimal digits), and what is behind a branch changes: {asked} of {repository} is now at\n"
        f"  --revision={hub.commit_of(repository, asked)}"
    )


def bring(asked: Source, destination: Path, check: Callable[[Path], str], tell: Callable[[str], None]) -> None:
    """Fetch a model to a directory that is not there yet; `check` returns the digest of one that is good.

    Raises hub.Unfinished when the hub breaks off, and then goes on from there when it is called again; AssetError for
    what can never be good, and then nothing is left; TrainingStopped without room.
    """
    _refuse(destination)
    listed = hub.listing(asked.repository, asked.commit)
    with _draft(asked, destination) as draft:
        _get(asked, listed, (_CONFIG,), draft, tell)
        # What is not known here, or is another model, is refused before its weights come.
        parameters = build.define(config.Model(name=asked.alias, weights=str(draft))).num_parameters
        weights = _weights(asked, listed, draft, tell)
        names = [*(name for name in _BESIDE if name in listed), *weights]
        _check_sizes(asked, [listed[name] for name in names], parameters, draft)
        _get(asked, listed, names, draft, tell)
        weight_files.compare(draft, asked.files, asked.alias)
        digest = check(draft)
        made = {name: weight_files.of_file(draft / name) for name in sorted({_CONFIG, *names})}
        values = {"repository": asked.repository, "commit": asked.commit, "endpoint": hub.endpoint()}
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        receipt.write(draft, {**values, "time": now, "digest": digest, "files": made})


def _get(
    asked: Source, listed: Mapping[str, Listed], names: Sequence[str], draft: Path, tell: Callable[[str], None]
) -> None:
    for name in names:
        file = _stated(asked, listed, name)
        tell(f"{name}, {amounts.size(file.size)}")
        hub.fetch(asked.repository, asked.commit, file, draft / name, _every_gigabyte(file, tell))


def _every_gigabyte(file: Listed, tell: Callable[[str], None]) -> Callable[[int], None]:
    said = 0

    def progress(have: int) -> None:
        nonlocal said
        if have // 10**9 > said:
            said = have // 10**9
            tell(f"{file.name}, {amounts.size(have)} of {amounts.size(file.size)} are here")

    return progress


def _stated(asked: Source, listed: Mapping[str, Listed], name: str) -> Listed:
    """Return what the hub states of a file; AssetError when that is too much of it, or another one than is known."""
    if name not in listed:
        raise AssetError(f"{asked.repository} has no {name} at {asked.commit}, which a model needs; nothing is kept")
    file = listed[name]
    most = _MOST_BYTES.get(name, _MOST_BESIDE if name in _BESIDE else file.size)
    if file.size > most:
        raise AssetError(f"{name} of {asked.repository} has {file.size:,} bytes, and at most {most:,} are read of one")
    known = asked.files.get(name, file.digest)
    if file.algorithm == "sha256" and known != file.digest:
        raise AssetError(
            f"{name} of {asked.repository} has the SHA-256 {file.digest} at this commit, and the catalogue knows "
            f"{known} as {asked.alias}'s: choose that file's commit, or write {asked.repository} to take it as it is"
        )
    return file


def _weights(asked: Source, listed: Mapping[str, Listed], draft: Path, tell: Callable[[str], None]) -> list[str]:
    """Return the names of the weight files; of an index, which is fetched for it, those it names."""
    if weight_files.SINGLE in listed:
        return [weight_files.SINGLE]
    if weight_files.INDEX in listed:
        _get(asked, listed, (weight_files.INDEX,), draft, tell)
        named = sorted(set(weight_files.index(draft / weight_files.INDEX).values()))
        return [weight_files.INDEX, *(_stated(asked, listed, name).name for name in named)]
    if weight_files.FLAX in listed:
        return [weight_files.FLAX]
    others = [name for name in listed if Path(name).suffix in weight_files.PICKLES]
    held = f"its weights in {', '.join(others[:3])} only, which can hold programs" if others else "no weights"
    raise AssetError(f"{asked.repository} has {held}: fetched are safetensors, or else {weight_files.FLAX}")


def _check_sizes(asked: Source, files: list[Listed], parameters: int, draft: Path) -> None:
    """Raise AssetError for more weights than the architecture can have, TrainingStopped when there is no room."""
    total = sum(file.size for file in files if file.name not in _BESIDE)
    most = _PARAMETER_BYTES * parameters + _SPARE_BYTES
    if total > most:
        raise AssetError(
            f"{asked.repository} has weights of {amounts.size(total)}, and its config.json tells of {parameters:,} "
            f"parameters, which take {amounts.size(most)} at most; none was fetched"
        )
    have = sum(path.stat().st_size for path in draft.iterdir())
    needed, free = sum(file.size for file in files) - have + _SPARE_BYTES, shutil.disk_usage(draft).free
    if needed > free:
        raise TrainingStopped(
            f"{asked.repository} needs {amounts.size(needed)} more in {draft.parent}, where {amounts.size(free)} are "
            "free: make room, or name another directory in --to"
        )


def _refuse(destination: Path) -> None:
    if os.path.lexists(destination):
        raise AssetError(
            f"{destination} is there already: codex-jax model import tells what it is; remove it, or choose another "
            "directory with --to"
        )


@contextlib.contextmanager
def _draft(asked: Source, destination: Path) -> Iterator[Path]:
    """Give a directory that keeps what has arrived; it gets the name `destination` when the block ends without error.

    What of another commit lies there is removed first. What turned out bad is removed as well; what broke off is not.
    """
    draft = destination.with_name(f".{destination.name}.part")
    with _held(draft, destination):
        try:
            _begin(draft, f"{asked.repository} {asked.commit}\n")
            yield draft
            (draft / _OF).unlink()
            for path in [*draft.iterdir(), draft]:
                atomic.sync(path)
            _refuse(destination)
            os.rename(draft, destination)
            atomic.sync(destination.parent)
        except (hub.Unfinished, TrainingStopped):
            raise
        except CodexError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        except OSError as error:
            raise atomic.refused(draft, error) from error


@contextlib.contextmanager
def _held(draft: Path, destination: Path) -> Iterator[None]:
    """Hold a directory, made if needed; ConfigError when another process has it."""
    try:
        draft.mkdir(parents=True, exist_ok=True)
        handle = os.open(draft, os.O_RDONLY)
    except OSError as error:
        raise atomic.refused(draft, error) from error
    try:
        _lock(handle, destination)
        # Another process may have finished it before it was held.
        _refuse(destination)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, destination: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"another process is downloading to {destination}; wait for it") from None


def _begin(draft: Path, of: str) -> None:
    mark = draft / _OF
    if not mark.is_file() or mark.read_text(encoding="utf-8") != of:
        for path in draft.iterdir():
            path.unlink()
        mark.write_text(of, encoding="utf-8")
