"""A ledger of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_jax.tracking.writer import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A writer without sinks, in `tmp_path`."""
    with Writer(tmp_path, run_id="r", resume_step=0, sinks={}) as made:
        yield made
