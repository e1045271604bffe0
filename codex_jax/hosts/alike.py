"""What must be the same in all processes of a run, compared before they train together."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from codex_jax import __version__, config, schema
from codex_jax.errors import AssetError, ConfigError
from codex_jax.hosts.team import Team


# Of one process alone.
_OWN = ("parallel.process_index",)


def check_start(team: Team, settings: config.Config) -> None:
    """Raise ConfigError naming each process with other settings, as they are resolved, or other versions."""
    flat = dict(schema.flatten(config.to_dict(settings)))
    facts = {name: value for name, value in flat.items() if name not in _OWN}
    facts |= {"codex_jax": __version__, "jax": jax.__version__, "numpy": np.__version__}
    team.agree(facts, ConfigError, "the processes of this run were started with differences:")


def check_weights(team: Team, sha256: str) -> None:
    """Raise AssetError naming each process that begins with other weights."""
    team.agree({"weights": sha256}, AssetError, "the processes of this run read different weights:")


def check_data(team: Team, fingerprint: Mapping[str, Any], tokenizer: str) -> None:
    """Raise AssetError naming each process with other data or another tokenizer."""
    team.agree({**fingerprint, "tokenizer": tokenizer}, AssetError, "the processes of this run read different data:")
