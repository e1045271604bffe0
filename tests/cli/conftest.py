"""What tests of `codex-jax` share: a command run in a directory of its own, and what it printed."""

import io
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from codex_jax.cli import app


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
