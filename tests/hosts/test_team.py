"""Processes of a run that meet, decide, compare, and hear of each other's end: teams over real sockets of loopback."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from teams import each, free_port, make_team, patience

from codex_jax import config
from codex_jax.errors import AssetError, ConfigError, TrainingStopped
from codex_jax.hosts import desk, join
from codex_jax.hosts.team import Team


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parents[2]


def test_first_decides_and_others_hear_it_in_order(three: list[Team]) -> None:
    asked: list[int] = []

    def work(team: Team) -> list[Any]:
        def make(value: Any) -> Any:
            asked.append(team.index)
            return value

        return [team.decide(lambda: make(7)), team.decide(lambda: make("run"))]

    assert each(three, work) == [[7, "run"]] * 3
    assert asked == [0, 0]


def test_first_works_before_the_others(three: list[Team]) -> None:
    order: list[int] = []
    each(three, lambda team: team.after_the_first(lambda: order.append(team.index), lambda: None))
    assert order[0] == 0 and sorted(order) == [0, 1, 2]


def test_each_process_that_differs_is_named_to_all(three: list[Team]) -> None:
    def compare(team: Team) -> None:
        with team.guard():
            team.agree({"data": "same", "seed": team.index // 2}, AssetError, "different:")

    for index, error in enumerate(each(three, compare)):
        assert isinstance(error, AssetError)
        assert "process 2: seed is 1, of process 0 0" in str(error) and "data" not in str(error).replace("data ", "")
        assert str(error).startswith("process 0: ") == (index != 0)


@pytest.mark.parametrize("failing", [0, 1])
def test_failure_of_one_ends_the_wait_of_all(three: list[Team], failing: int) -> None:
    def work(team: Team) -> None:
        with team.guard():
            if team.index == failing:
                raise ConfigError("the reason")
            if team.is_first:
                team.agree({}, AssetError, "")
            team.decide(lambda: 1) if failing == 0 else team.agree({}, AssetError, "")
            team.decide(lambda: 1)

    said = each(three, work)
    assert all(isinstance(error, ConfigError) for error in said)
    assert {str(error) for error in said} == {"the reason", f"process {failing}: the reason"}


def test_foreign_error_after_anothers_failure_is_told_as_that_failure(three: list[Team]) -> None:
    def work(team: Team) -> None:
        with team.guard():
            if team.index == 1:
                raise AssetError("no such file")
            raise RuntimeError("Gloo: connection closed by peer")

    said = each(three, work)
    assert {str(error) for error in said} == {"no such file", "process 1: no such file"}


def test_save_that_failed_since_another_is_gone_is_told_as_that_failure(three: list[Team]) -> None:
    def work(team: Team) -> None:
        with team.guard():
            if team.index == 1:
                raise AssetError("no such file")
            raise TrainingStopped("not saved") from RuntimeError("Gloo: connection closed by peer")

    assert {str(error) for error in each(three, work)} == {"no such file", "process 1: no such file"}


def test_failure_while_the_first_works_is_seen_between(three: list[Team]) -> None:
    failed = threading.Event()

    def work(team: Team) -> None:
        with team.guard():
            if team.index == 1:
                failed.set()
                raise TrainingStopped("full")
            failed.wait()
            while True:
                team.raise_if_failed()

    assert {str(error) for error in each(three, work)} == {"full", "process 1: full"}


@pytest.mark.parametrize(
    ("hellos", "expected"),
    [
        ([(1, 3), (1, 3)], "two processes have parallel.process_index=1"),
        ([(3, 3)], "two processes have parallel.process_index=3"),
        ([(1, 2)], "process 1 is one of parallel.num_processes=2, process 0 one of 3"),
        ([(1, 3)], "of 3 processes 2 did not come within parallel.wait_secs=1"),
    ],
)
def test_wrong_company_is_refused_to_all(hellos: list[tuple[int, int]], expected: str) -> None:
    port = free_port()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(desk.wait_for_all, port, 3, 1.0, patience(10))
        links = [desk.call("localhost", port, hello, 5.0, lambda: None) for hello in hellos]
        with pytest.raises(ConfigError, match=expected):
            first.result()
    for (index, count), link in zip(hellos, links, strict=True):
        with pytest.raises(ConfigError, match=expected):
            team = make_team(index, count, link)
            team.decide(lambda: None)
        team.hang_up()


def test_stranger_at_the_port_is_not_let_in() -> None:
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(desk.wait_for_all, port, 2, 20.0, lambda: None)
        for said in (b"GET / HTTP/1.1\r\n\r\n", b'{"process": "1", "count": 2}\n', b"[]\n"):
            with desk_connection(port) as stranger, contextlib.suppress(ConnectionResetError):
                stranger.sendall(said)
                assert stranger.recv(1) == b""
        second = make_team(1, 2, desk.call("localhost", port, (1, 2), 20.0, lambda: None))
        team = make_team(0, 2, first.result())
        assert list(first.result()) == [1]
    for one in (team, second):
        one.hang_up()


def desk_connection(port: int) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("localhost", port))
        except ConnectionRefusedError:
            pass


def test_port_in_use_is_named() -> None:
    with socket.create_server(("", 0)) as server, pytest.raises(ConfigError, match="cannot listen on the port"):
        desk.wait_for_all(server.getsockname()[1], 2, 5.0, lambda: None)


def test_nobody_at_the_address_is_said_in_time() -> None:
    settings = config.Parallel(coordinator=f"localhost:{free_port()}", num_processes=2, process_index=1, wait_secs=0.5)
    with (
        pytest.raises(ConfigError, match=r"process 0 is not at parallel.coordinator=localhost.*wait_secs=0.5"),
        join.join(settings, patience(10)),
    ):
        pass


def test_auto_without_a_cluster_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="jax sees no cluster"),
        join.join(config.Parallel(coordinator="auto"), lambda: None),
    ):
        pass


def wait_for_failure(team: Team) -> None:
    waiting = patience(10)
    while True:
        waiting()
        team.raise_if_failed()


def test_killed_process_is_named_at_once() -> None:
    port = free_port()
    program = f"""
from codex_jax.hosts import desk, team
links = desk.call("localhost", {port}, (1, 2), 20.0, lambda: None)
team.Team(1, 2, links).decide(lambda: 1)
"""
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    links = desk.wait_for_all(port, 2, 60.0, lambda: None)
    team = make_team(0, 2, links)
    child.kill()
    child.wait()
    with pytest.raises(TrainingStopped, match="process 1: it ended without a word"):
        wait_for_failure(team)
    with pytest.raises(TrainingStopped, match="process 1: it ended without a word"):
        team.agree({}, AssetError, "")
    team.hang_up()


def test_each_hears_what_all_give(three: list[Team]) -> None:
    assert each(three, lambda team: team.gather(team.index * 10, lambda: None)) == [[0, 10, 20]] * 3


@pytest.mark.parametrize("asking", [0, 1])
def test_wish_to_stop_reaches_who_waits_for_something_else(three: list[Team], asking: int) -> None:
    def work(team: Team) -> list[str]:
        waiting = patience(10)
        if team.index == asking:
            team.ask_to_stop("SIGTERM")
        while not team.asked:
            waiting()
        return team.gather(team.asked, waiting)

    assert each(three, work) == [["SIGTERM"] * 3] * 3


def test_stopped_process_is_named_and_one_that_is_only_busy_is_not() -> None:
    port = free_port()
    program = f"""
import time
from codex_jax.hosts import desk, team
links = desk.call("localhost", {port}, (1, 2), 20.0, lambda: None)
one = team.Team(1, 2, links, silence_secs=1.5)
time.sleep(3)
one.agree({{}}, ValueError, "")
one.decide(lambda: 1)
"""
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    links = desk.wait_for_all(port, 2, 60.0, lambda: None)
    team = Team(0, 2, links, end=lambda secs, failure: None, silence_secs=1.5)
    try:
        team.agree({}, AssetError, "")  # it was busy for twice as long
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(TrainingStopped, match=r"process 1: it has said nothing for parallel\.wait_secs=1\.5"):
            wait_for_failure(team)
    finally:
        child.kill()
        child.wait()
    team.hang_up()
