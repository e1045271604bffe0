"""Teams over real sockets of loopback, as if each were in a process of its own."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from codex_jax.errors import CodexError
from codex_jax.hosts import desk
from codex_jax.hosts.team import Team


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def make_team(index: int, count: int, links: dict[int, desk.Link]) -> Team:
    """Return a team whose failure does not end this process."""
    return Team(index, count, links, end=lambda secs, failure: None)


def meet(count: int, port: int) -> list[Team]:
    """Return teams that have met, as if each were in a process of its own."""
    with ThreadPoolExecutor(count) as pool:
        first = pool.submit(desk.wait_for_all, port, count, 20.0, lambda: None)
        others = [
            pool.submit(desk.call, "localhost", port, (index, count), 20.0, lambda: None) for index in range(1, count)
        ]
        return [make_team(index, count, links.result()) for index, links in enumerate([first, *others])]


def patience(secs: float) -> Callable[[], None]:
    """Return what raises when it is called so late: a wait whose end is broken fails a test, and does not hang it."""
    deadline = time.monotonic() + secs

    def check() -> None:
        assert time.monotonic() < deadline, f"nothing happened for {secs:g} s"

    return check


def each(teams: list[Team], work: Callable[[Team], Any]) -> list[Any]:
    """Return what the work returns, or raises, in all of them at once."""

    def run(team: Team) -> Any:
        try:
            return work(team)
        except CodexError as error:
            return error

    with ThreadPoolExecutor(len(teams)) as pool:
        return list(pool.map(run, teams))
