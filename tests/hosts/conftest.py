"""What tests of several processes share."""

from collections.abc import Iterator

import pytest
from teams import free_port, meet

from codex_jax.hosts.team import Team


@pytest.fixture
def three() -> Iterator[list[Team]]:
    teams = meet(3, free_port())
    yield teams
    for team in teams:
        team.hang_up()
