"""compose.yaml: what it starts is pinned, reachable from this machine alone, and holds no secret."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_jax import overrides


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parent.parent
OURS = "codex-jax:local"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as docker compose reads it."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def test_services_are_those_of_the_page(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"train", "train-gpu", "mlflow", "tensorboard", "prometheus", "machine"}
    started = {name for name, service in services.items() if "profiles" not in service}
    assert started == {"mlflow", "tensorboard"}
    page = (ROOT / "docs" / "monitoring.md").read_text().partition("## Compose")[2]
    assert [name for name in services if f"`{name}`" not in page] == []


def test_ports_are_of_this_machine_alone(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert not [name for name, service in compose["services"].items() if "network_mode" in service]


def test_images_are_pinned_or_built_here(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["image"] == OURS or re.fullmatch(r"[\w./-]+:v\d+\.\d+\.\d+", service["image"]), name
    builds = [service["build"] for service in compose["services"].values() if "build" in service]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    dockerfile = (ROOT / builds[0]["dockerfile"]).read_text()
    assert re.findall(r"^ARG EXTRAS=(\w+)$", dockerfile, re.MULTILINE) == ["gpu"]
    for build in builds:
        default = re.fullmatch(r"\$\{EXTRAS:-(\w+)\}", build["args"]["EXTRAS"])
        assert default is not None and default[1] in extras and "gpu" in extras


def test_volumes_are_declared_or_lie_here(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source, _, rest = volume.partition(":")
            is_read_only = rest.endswith(":ro")
            assert source in compose["volumes"] or source == "./runs" or is_read_only, f"{name}: {volume}"
        assert service["cap_drop"] == ["ALL"] and not service.get("privileged"), name


def test_no_secret_and_no_unknown_variable_is_set(compose: dict[str, Any]) -> None:
    known = {*overrides.VARIABLES, "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"}
    for service in compose["services"].values():
        assert set(service.get("environment", {})) <= known
    assert not re.search(r"(?i)(password|secret|token|api_?key)\s*[:=]", (ROOT / "compose.yaml").read_text())


def ask(port: int, host: str) -> int:
    """Return the status of the answer to a request under the name of a host."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_server_answers_the_trainer_and_this_machine_and_no_other_name(compose: dict[str, Any], tmp_path: Path) -> None:
    """Started with the very arguments of the file, but for its port and its directory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = compose["services"]["mlflow"]
    given = [one.replace("/home/codex/mlflow", str(tmp_path)) for one in service["command"]]
    given = [one for one in given if not one.startswith(("--host=", "--port="))]
    command = [sys.executable, "-m", *service["entrypoint"], *given, "--host=127.0.0.1", f"--port={port}"]
    with open(tmp_path / "log", "w") as log:
        env = {**os.environ, **service["environment"]}
        # A group of its own: its workers are processes that must end with it.
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            try:
                ask(port, "localhost:5000")
                break
            except OSError:
                time.sleep(0.2)
        answers = [ask(port, host) for host in ("mlflow:5000", "localhost:5000", "127.0.0.1:5000", "evil.example")]
        assert answers == [200, 200, 200, 403], (tmp_path / "log").read_text()
        assert (tmp_path / "mlflow.db").is_file()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
