"""Where an MLflow copy goes: the settings and the environment read to one URI, or refused."""

import ipaddress
import os
import urllib.parse
from pathlib import Path

from codex_jax import schema
from codex_jax.errors import ConfigError


OFFLINE = "MLFLOW_OFFLINE"


def tracking_uri(given: str, workdir: Path) -> str:
    """Return the URI of an SQLite file or of a server; ConfigError for any other, saying what it may be.

    `given` is `tracking.mlflow.uri`: '' for a file in the run directory, a path, or a URI.
    """
    scheme, separator, rest = given.partition("://")
    if not given:
        return f"sqlite:///{workdir.resolve() / 'mlflow.db'}"
    if not separator and ":" not in given.split("/")[0]:
        return f"sqlite:///{Path(given).expanduser().resolve()}"
    if scheme == "sqlite" and rest.startswith("/"):
        return f"sqlite:///{Path(rest[1:]).resolve()}"
    if scheme in ("http", "https"):
        return _server(given)
    raise ConfigError(
        f"tracking.mlflow.uri={given} is neither a path nor sqlite:///PATH nor http://HOST:PORT; MLflow's stores of "
        "plain files (file:) are no longer written by it"
    )


def database(uri: str) -> Path | None:
    """Return the SQLite file of a URI, None when it is a server's."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def elsewhere(uri: str) -> str:
    """Return the URI when it is of a server on another machine, else ''."""
    if database(uri):
        return ""
    host = urllib.parse.urlsplit(uri).hostname or ""
    return "" if _is_loopback(host) else uri


def _server(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    if parts.username or parts.password:
        raise ConfigError(
            f"tracking.mlflow.uri holds a name or a password of {parts.hostname}, and settings are written to files: "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    if not parts.hostname:
        raise ConfigError(f"tracking.mlflow.uri={uri} names no host: write http://HOST:PORT")
    if os.environ.get(OFFLINE, "").strip().lower() in schema.TRUE:
        raise ConfigError(f"{OFFLINE}=1 forbids every server, and tracking.mlflow.uri={uri} is one: unset one of them")
    return uri.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name: what it stands for is not asked
