"""Servers on this machine for an MLflow copy: a real one, and ones that do not answer as they should."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import small_run


def clean_environment() -> dict[str, str]:
    """Return an environment in which no package can tell that it is tested."""
    # MLflow turns its telemetry off where it sees these: a test would pass without our doing.
    hints = ("PYTEST", "GITHUB", "CI", "MLFLOW", "WANDB")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(hints)}
    return {**clean, "PYTHONPATH": os.pathsep.join(sys.path)}


class Real:
    """`mlflow server` with an SQLite store, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.database = directory, directory / "server.db"
        self.port = small_run.free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process:
            return
        store, files = f"sqlite:///{self.database}", str(self.directory / "files")
        options = ["--backend-store-uri", store, "--artifacts-destination", files, "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", *options, "--port", str(self.port)]
        environment = {**clean_environment(), "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self.directory / "server.log", "ab") as log:
            # A group of its own: its workers are processes that must die with it.
            self._process = subprocess.Popen(
                command, env=environment, cwd=self.directory, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, (
                self.directory / "server.log"
            ).read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self._process:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Accept connections for a while and answer nothing, as on a machine that is out of memory."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGSTOP)
        yield
        os.killpg(self._process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Answer with a server's error for a while: the table of values is gone from its database."""
        self._rename("metrics", "lost")
        yield
        self._rename("lost", "metrics")

    def _rename(self, table: str, name: str) -> None:
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as database, database:
            database.execute(f"ALTER TABLE {table} RENAME TO {name}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False


class _Failing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    do_POST = do_PATCH = do_PUT = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def failing() -> Iterator[str]:
    """A server that answers 500 to everything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """A port that nobody listens on."""
    yield f"http://127.0.0.1:{small_run.free_port()}"
