"""Messages between the processes of a run: lines of JSON over TCP, between the first process and each of the others.

    {"value": ...}      what a decision or a comparison needs
    {"failure": ...}    why its sender, or another process of which its sender knows, ends
    {"asked": ...}      the signal that came to its sender, or to another process of which its sender knows
    {"alive": true}     nothing new
    {"bye": true}       its sender ends, and nothing is wrong

A connection that ends without `bye` or `failure` is one whose process was killed: its peer knows at once.
"""

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from codex_jax.errors import AssetError, CodexError, ConfigError, Interrupted, TrainingStopped


# A machine without power, or a cut cable, is noticed after 10 + 4 x 5 = 30 s.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))
_RETRY_SECS = 0.2
_HELLO_SECS = 10.0
_MAX_LINE_BYTES = 64 * 2**20
_ERRORS = {error.exit_code: error for error in (CodexError, ConfigError, AssetError, TrainingStopped, Interrupted)}


class Failure(NamedTuple):
    """Why all processes end."""

    process: int
    code: int
    reason: str

    def error(self) -> CodexError:
        """Return the error that another process raises because of it."""
        return _ERRORS.get(self.code, TrainingStopped)(f"process {self.process}: {self.reason}")


class Ears(NamedTuple):
    """Who is told what comes over a link; a thread of its own calls them."""

    failure: Callable[[Failure], None]
    asked: Callable[[int, str], None]
    """with the process it came from"""
    end: Callable[[int], None]


class Link:
    """A connection to another process of the run."""

    def __init__(self, connection: socket.socket, process: int) -> None:
        self.process = process
        self.values: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._connection = connection
        self._sending = threading.Lock()
        self._explained = False
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def listen(self, ears: Ears, silence_secs: float) -> None:
        """Begin to take in what the other says; it has failed when it says nothing for so long (0: never)."""
        self._connection.settimeout(silence_secs or None)
        threading.Thread(target=self._listen, args=(ears, silence_secs), daemon=True).start()

    def send(self, **message: Any) -> None:
        """Send a message; that the other is gone is heard, not felt."""
        line = json.dumps(message).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(line)

    def close(self) -> None:
        """Let the other hear that this is the end."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """Close a link that nobody listens to."""
        self._connection.close()

    def _listen(self, ears: Ears, silence_secs: float) -> None:
        reason = "it ended without a word: it was killed, or its machine is gone; the last checkpoint stands"
        try:
            self._take_in(ears)
        except TimeoutError:
            reason = (
                f"it has said nothing for parallel.wait_secs={silence_secs:g}: it is stopped, or it hangs, or its "
                "machine does; the last checkpoint stands"
            )
        except (OSError, ValueError):
            pass  # its end, in the middle of a line
        self._connection.close()
        if not self._explained:
            ears.failure(Failure(self.process, TrainingStopped.exit_code, reason))
        ears.end(self.process)

    def _take_in(self, ears: Ears) -> None:
        with self._connection.makefile("rb") as lines:
            while line := lines.readline(_MAX_LINE_BYTES):
                message = json.loads(line)
                self._explained = self._explained or "failure" in message or "bye" in message
                if "value" in message:
                    self.values.put(message["value"])
                elif "failure" in message:
                    ears.failure(Failure(*message["failure"]))
                elif "asked" in message:
                    ears.asked(self.process, message["asked"])


def wait_for_all(port: int, count: int, secs: float, between: Callable[[], None]) -> dict[int, Link]:
    """Return a link to each of the processes 1 ... count - 1, who call at this port within `secs`.

    `between` is called several times a second and may raise to stop. ConfigError when the port is taken, when a caller
    is of another run, or when one does not come.
    """
    links: dict[int, Link] = {}
    try:
        with _server(port, count) as server:
            _take_in(server, links, count, secs, between)
    except CodexError as error:
        for link in links.values():
            link.send(failure=Failure(0, error.exit_code, str(error)))
            link.drop()
        raise
    return links


def _take_in(
    server: socket.socket, links: dict[int, Link], count: int, secs: float, between: Callable[[], None]
) -> None:
    deadline = time.monotonic() + secs
    server.settimeout(_RETRY_SECS)
    while missing := set(range(1, count)) - links.keys():
        between()
        if time.monotonic() > deadline:
            raise ConfigError(
                f"of {count} processes {_listed(missing)} did not come within parallel.wait_secs={secs:g}: start "
                "them with the same parallel.coordinator, and look whether they ended with a message"
            )
        with contextlib.suppress(TimeoutError):
            connection, _ = server.accept()
            if hello := _read_hello(connection):
                process, link = hello["process"], Link(connection, hello["process"])
                wrong = _wrong_hello(hello, links.keys(), count)
                links[-1 if wrong else process] = link  # who is refused must hear of it, too
                if wrong:
                    raise ConfigError(wrong)


def call(host: str, port: int, hello: tuple[int, int], secs: float, between: Callable[[], None]) -> dict[int, Link]:
    """Return the link to the first process; `hello` is (index of this process, number of all).

    ConfigError when it is not there within `secs`; `between` as in `wait_for_all`.
    """
    deadline = time.monotonic() + secs
    while True:
        between()
        try:
            connection = socket.create_connection((host, port), timeout=max(_RETRY_SECS, min(secs, 10.0)))
            if connection.getsockname() != connection.getpeername():
                break
            connection.close()  # of a port that nobody listens on the kernel made both ends
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"process 0 is not at parallel.coordinator={host}:{port} within parallel.wait_secs={secs:g} "
                    f"({error.strerror or error}): start it there, or correct the address"
                ) from error
        time.sleep(_RETRY_SECS)
    link = Link(connection, 0)
    link.send(process=hello[0], count=hello[1])
    return {0: link}


def _server(port: int, count: int) -> socket.socket:
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, backlog=count, dualstack_ipv6=both)
    except OSError as error:
        raise ConfigError(
            f"process 0 cannot listen on the port of parallel.coordinator, {port} ({error.strerror}): choose another"
        ) from error


def _read_hello(connection: socket.socket) -> dict[str, Any] | None:
    """Return what a caller says of itself; None when it does not speak as we do."""
    connection.settimeout(_HELLO_SECS)
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < 200 and (byte := connection.recv(1)):
            line += byte
        hello = json.loads(line)
        if type(hello["process"]) is int and type(hello["count"]) is int:
            return dict(hello)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    connection.close()
    return None


def _wrong_hello(hello: dict[str, Any], known: Collection[int], count: int) -> str:
    process = hello["process"]
    if hello["count"] != count:
        return f"process {process} is one of parallel.num_processes={hello['count']}, process 0 one of {count}"
    if process in known or not 0 < process < count:
        return f"two processes have parallel.process_index={process}: give each of the {count} its own"
    return ""


def _listed(processes: set[int]) -> str:
    shown = sorted(processes)[:10]
    return ", ".join(str(process) for process in shown) + (" and others" if len(processes) > len(shown) else "")
