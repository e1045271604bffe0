"""What tests of `codex-jax` share: a command run in a directory of its own, and what it printed."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import hub_server
import pytest
import tiny_hub

from codex_jax.cli import app
from codex_jax.models import hub, origin


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Command(Protocol):
    """Runs `codex-jax` with some arguments."""

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Done: ...


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in a directory of its own, and hold what it prints for people to 80 columns."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        done = Done(app.main([*map(str, arguments)]), *capsys.readouterr())
        for_people = "" if "--json" in arguments else done.out
        assert all(len(line) <= 80 for line in for_people.splitlines() if str(tmp_path) not in line)
        return done

    return run


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small model, as somebody published it."""
    return tiny_hub.published(tmp_path_factory.mktemp("published"))


@pytest.fixture
def served(published: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    """A hub with that model, asked from a directory of its own."""
    monkeypatch.chdir(tmp_path)
    silent = ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "CODEX_ALLOW_NETWORK", "CODEX_GPT2_PATH")
    for name in (*silent, *origin.ROOTS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    monkeypatch.setattr(hub, "PAUSE_SECS", 0.0)
    made = hub_server.Hub(tiny_hub.REPOSITORY, dict(published))
    with hub_server.serving(made) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield made
