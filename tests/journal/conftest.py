"""A ledger of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import small_writer

from codex_jax.tracking.writer import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A writer without sinks, in `tmp_path`."""
    with small_writer.bare(tmp_path, run_id="r") as made:
        yield made
