"""jax's coordination service as a process of its own, which outlives the first process of a run by a moment.

jax keeps it inside the first process and aborts all others, from C++ and with a stack trace, the instant it is gone.
Beside the first process, the others live long enough to say what happened and to end with an exit code.

python -m codex_jax.hosts.service COUNT    tells its port; ends after its standard input does
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from codex_jax.errors import TrainingStopped


LINGER_SECS = 60.0
# Processes that end are seen by `desk`, in every case sooner; jax is to have no opinion of its own.
HEARTBEAT_SECS = 24 * 3600
SHUTDOWN_SECS = 30


_started: list["subprocess.Popen[bytes]"] = []
"""Held until this process ends, by whose end of the pipe the service knows it."""


def start(count: int) -> int:
    """Start the service for `count` processes and return its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "codex_jax.hosts.service", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a terminal sends Ctrl-C to all processes of a session
    )
    assert process.stdout is not None
    with process.stdout as answer:
        port = answer.readline()
    if not port:
        raise TrainingStopped(f"the coordination service of jax did not start (exit code {process.wait()})")
    _started.append(process)
    return int(port)


def main(count: int) -> None:
    """Serve until the first process is gone and the others have hung up, LINGER_SECS at the most."""
    from jaxlib import _jax

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    port = _free_port()
    service = _jax.get_distributed_runtime_service(
        f"[::]:{port}", count, heartbeat_timeout=HEARTBEAT_SECS, shutdown_timeout=SHUTDOWN_SECS
    )
    os.write(1, f"{port}\n".encode())
    os.close(1)
    while os.read(0, 4096):
        pass
    deadline = time.monotonic() + LINGER_SECS
    while time.monotonic() < deadline and _is_used(port):
        time.sleep(0.1)
    del service
    os._exit(0)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def _is_used(port: int) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error):
        connections = psutil.Process().net_connections("tcp")
        return any(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in connections)
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]))
