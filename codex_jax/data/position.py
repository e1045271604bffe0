"""A saved position in the data is taken up only in the data and the order it was saved in."""

from collections.abc import Mapping, Sequence
from typing import Any

from codex_jax import schema
from codex_jax.errors import AssetError


def check(state: Mapping[str, Any], fingerprint: Mapping[str, Any], numbers: Sequence[str]) -> None:
    """Raise AssetError, naming what differs, unless `state` is one of this fingerprint and has these numbers."""
    there = state.get("fingerprint", {})
    changed = [name for name in sorted({*there, *fingerprint}) if there.get(name) != fingerprint.get(name)]
    if changed:
        pairs = [(name, schema.shown(there.get(name)), schema.shown(fingerprint.get(name))) for name in changed]
        listing = "".join(f"\n  {name}: {before}, now {now}" for name, before, now in pairs)
        raise AssetError(f"the saved position is one in other data:{listing}\nput them back, or begin a new workdir")
    for name in numbers:
        if type(state.get(name)) is not int or state[name] < 0:
            raise AssetError(f"the saved position has {name}={state.get(name)!r}; resume from an older checkpoint")
