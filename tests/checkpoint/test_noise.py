"""What Orbax leaves behind of a failed save stays off the terminal; what anybody else leaves there does not."""

import asyncio
import logging

import pytest

from codex_jax.checkpoint import noise


pytestmark = pytest.mark.infra

SOURCE = "async def fail():\n    raise ValueError('no room')\n"


def log_of_a_forgotten_task(filename: str, capture: pytest.LogCaptureFixture) -> str:
    names: dict[str, object] = {}
    exec(compile(SOURCE, filename, "exec"), names)

    async def forget() -> None:
        task = asyncio.create_task(names["fail"]())  # type: ignore[operator]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    noise.suppress()
    with capture.at_level(logging.ERROR, "asyncio"):
        asyncio.run(forget())
    return capture.text


def test_writes_that_failed_beside_the_first_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert log_of_a_forgotten_task("/lib/orbax/checkpoint/serialization.py", caplog) == ""


def test_forgotten_tasks_of_others_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert "no room" in log_of_a_forgotten_task("/lib/somebody/else.py", caplog)
