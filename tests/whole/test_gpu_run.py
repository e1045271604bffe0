"""A run on a GPU that is killed and stopped ends with the same bytes as one that was not."""

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import small_run


pytestmark = [pytest.mark.infra, pytest.mark.gpu]


@pytest.fixture
def env(main_env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a run that shares the GPU with this process."""
    return {**main_env, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shards", [0, 2])
def test_run_on_a_gpu_resumed_twice_equals_the_straight_one(
    corpus: Path, env: Mapping[str, str], tmp_path: Path, dtype: str, shards: int
) -> None:
    changes = {"model.compute_dtype": dtype, "parallel.deterministic_reduction": shards}
    small_run.finish(small_run.arguments(corpus, tmp_path / "straight", changes), env)

    args = small_run.arguments(corpus, tmp_path / "stopped", changes)
    killed = small_run.start(args, env)
    small_run.wait_for(killed, "step 6/")
    killed.kill()
    killed.communicate()
    stopped = small_run.start(args, env)
    small_run.wait_for(stopped, "step 10/")
    stopped.send_signal(signal.SIGTERM)
    assert "is saved" in stopped.communicate(timeout=300)[0] and stopped.returncode == 75
    small_run.finish(args, env)
    assert small_run.metric_rows(tmp_path / "stopped") == small_run.metric_rows(tmp_path / "straight")
    assert small_run.state_digest(tmp_path / "stopped", 16) == small_run.state_digest(tmp_path / "straight", 16)
