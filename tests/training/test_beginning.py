"""What a run that is resumed keeps of its weights, and when the directory is looked at again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from codex_jax import config, rundir
from codex_jax.training import beginning


pytestmark = pytest.mark.model

ARCHITECTURE = json.dumps({"model_type": "gpt2"})


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A run that began with /gone and has a checkpoint."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "tokenizer").mkdir()
    rundir.begin(tmp_path, "id", {"model": {"weights": "/gone", "architecture": ARCHITECTURE}}, {})
    return tmp_path


def of(**model: Any) -> config.Config:
    return dataclasses.replace(config.Config(), model=config.Model(**model))


@pytest.mark.parametrize(
    "model", [{"weights": "/gone"}, {"name": "gpt2", "weights": "offline"}, {"name": "gpt2-offline"}]
)
def test_architecture_and_tokenizer_are_those_of_the_run(workdir: Path, model: dict[str, str]) -> None:
    found = beginning.recall(workdir, of(**model))
    assert (found.model.weights, found.model.architecture) == ("/gone", ARCHITECTURE)
    assert found.tokenizer.path == str(workdir / "tokenizer")


@pytest.mark.parametrize("model", [{}, {"name": "gpt2"}, {"weights": "/other"}])
def test_nothing_is_recalled_for_other_weights_or_none(workdir: Path, model: dict[str, str]) -> None:
    assert beginning.recall(workdir, of(**model)) == of(**model)


def test_nothing_is_recalled_before_there_is_a_checkpoint(workdir: Path) -> None:
    (workdir / "checkpoints").rmdir()
    assert beginning.recall(workdir, of(weights="/gone")) == of(weights="/gone")


def test_a_tokenizer_that_is_named_stays(workdir: Path) -> None:
    settings = dataclasses.replace(of(weights="/gone"), tokenizer=config.Tokenizer(kind="byte"))
    assert beginning.recall(workdir, settings).tokenizer == settings.tokenizer
