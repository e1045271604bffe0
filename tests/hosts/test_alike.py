"""What differs between the processes of a run is named to all of them before they train together."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from teams import each

from codex_jax import __version__, config, rundir, schema
from codex_jax.errors import AssetError, ConfigError
from codex_jax.hosts import alike
from codex_jax.hosts.team import Team


pytestmark = pytest.mark.infra

ALIKE = config.Config()


def started_with(index: int, rate: float) -> config.Config:
    """Settings of a process, with a learning rate of its own."""
    return dataclasses.replace(
        ALIKE,
        parallel=dataclasses.replace(ALIKE.parallel, process_index=index),
        optimizer=dataclasses.replace(ALIKE.optimizer, learning_rate=rate),
    )


def test_other_settings_are_named_and_the_own_index_is_none(three: list[Team]) -> None:
    def compare(team: Team, rate: float) -> None:
        with team.guard():
            alike.check_start(team, started_with(team.index, rate))

    assert each(three, lambda team: compare(team, 0.1)) == [None] * 3
    for error in each(three, lambda team: compare(team, 0.1 + (team.index == 2))):
        assert isinstance(error, ConfigError) and "process 2: optimizer.learning_rate is 1.1, of process 0 0.1" in str(
            error
        )
        assert "process 1:" not in str(error) and "process_index" not in str(error)


def test_other_versions_are_named(three: list[Team]) -> None:
    same = {name: value for name, value in schema.flatten(config.to_dict(ALIKE)) if name != "parallel.process_index"}

    def compare(team: Team) -> None:
        with team.guard():
            if team.index:
                alike.check_start(team, ALIKE)
            else:
                team.agree({**same, "codex_jax": "0", "jax": "0", "numpy": "0"}, ConfigError, "")

    said = str(each(three, compare)[0])
    versions = {"codex_jax": __version__, "jax": jax.__version__, "numpy": np.__version__}
    expected = [f"process 1: {name} is '{version}', of process 0 '0'" for name, version in versions.items()]
    assert [line.strip() for line in said.splitlines() if "process 1:" in line] == expected


@pytest.mark.parametrize("what", ["data", "tokenizer"])
def test_other_data_or_another_tokenizer_are_named(three: list[Team], what: str) -> None:
    def compare(team: Team) -> None:
        other = "b" * 64 if team.index == 1 else "a" * 64
        facts = {"data": "a" * 64, "tokenizer": "a" * 64, what: other}
        with team.guard():
            alike.check_data(team, {"data.corpus": facts["data"]}, facts["tokenizer"])

    named = {"data": "data.corpus", "tokenizer": "tokenizer"}[what]
    for error in each(three, compare):
        assert isinstance(error, AssetError)
        assert f"process 1: {named} is '{'b' * 12}', of process 0 '{'a' * 12}'" in str(error)


def test_directory_that_another_process_holds_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "SHARED_SECS", 0.2)
    with rundir.claim(tmp_path / "run"):
        owner = int((tmp_path / "run" / ".lock").read_text())
        rundir.check_shared(tmp_path / "run", owner)
        for workdir, process in ((tmp_path / "other", owner), (tmp_path / "run", owner + 1)):
            with pytest.raises(AssetError, match=r"is not the directory that process 0 has: name one in --workdir"):
                rundir.check_shared(workdir, process)
