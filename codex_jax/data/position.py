"""A saved position in the data is taken up only in the data and the order it was saved in."""

from collections.abc import Mapping, Sequence
from typing import Any

from codex_jax import changes
from codex_jax.changes import Change
from codex_jax.errors import AssetError


OTHER_DATA = "the saved position is one in other data:"
WAY_OUT = "put them back, begin a new workdir"


def differences(state: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> dict[str, Change]:
    """Return what decides about the data and is not as it was when the position `state` was saved."""
    return changes.of_content(state.get("fingerprint", {}), fingerprint)


def check(state: Mapping[str, Any], fingerprint: Mapping[str, Any], numbers: Sequence[str]) -> None:
    """Raise AssetError, naming what differs, unless `state` is one of this fingerprint and has these numbers."""
    changes.refuse(differences(state, fingerprint), (), AssetError, OTHER_DATA, WAY_OUT)
    for name in numbers:
        if type(state.get(name)) is not int or state[name] < 0:
            raise AssetError(f"the saved position has {name}={state.get(name)!r}; resume from an older checkpoint")
