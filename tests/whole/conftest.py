"""What tests of whole runs share."""

from pathlib import Path

import pytest
import small_run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text of the small run; no test writes to it."""
    return small_run.write_corpus(tmp_path_factory.mktemp("corpus"))
