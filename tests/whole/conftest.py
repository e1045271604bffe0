"""What tests of whole runs share."""

from collections.abc import Iterator
from pathlib import Path

import observers
import pytest
import small_run
import small_weights

from codex_jax import config
from codex_jax.data import pipeline


@pytest.fixture(autouse=True)
def no_run_is_left() -> Iterator[None]:
    """After each test no run goes on that it started."""
    yield
    small_run.kill_started()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text of the small run; no test writes to it."""
    return small_run.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def base(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of 37,760 parameters and its tokenizer; no test writes to it."""
    directory = small_weights.write(tmp_path_factory.mktemp("base") / "weights")
    settings = config.default()
    settings.tokenizer.vocab_size, settings.data.paths = 320, (str(corpus),)
    resolved = config.resolve(settings.to_dict())
    pipeline.make_tokenizer(resolved, observers.opened(resolved)).save(directory)
    return directory
