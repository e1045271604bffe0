"""What differs between a checkpoint and the run that would go on from it, and which of that the user allows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from codex_jax import config, schema
from codex_jax.errors import CodexError, ConfigError


# What may differ between the processes that make up one run. All else decides its numbers. Where the data and the
# tokenizer lie does not, nor where the policy does: the stream's fingerprint covers their content.
MAY_CHANGE = (
    r"^(eval|generate|tracking|checkpoint|parallel(?!\.deterministic_reduction))\.",
    r"^train\.(log_every|layer_stats_every|max_nonfinite|max_rewinds|max_step_secs)$",
    r"^data\.(workers|prefetch_batches|max_wait_secs|max_quarantined|encode_chunk_size)$",
    r"^(data\.(source|paths|validation_paths|store)|tokenizer\.(name|path|kind)|safety\.policy)$",
    r"^safety\.(on_block|bypass_reason)$",
    r"^model\.weights$",  # where they lie; a checkpoint holds their digest
)


class Change(NamedTuple):
    """A value in the checkpoint, and now."""

    before: Any
    now: Any


def of_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Change]:
    """Return by its name every setting that decides numbers and is not as the checkpoint has it.

    A key that the checkpoint does not know, because an older version saved it, has not changed while it is at its
    default: that does what was done before there was the key.
    """
    old, new = dict(schema.flatten(before)), dict(schema.flatten(now))
    known = dict(schema.flatten(config.to_dict(config.Config())))
    found = of_content({**{name: known[name] for name in known.keys() - old.keys()}, **old}, new)
    return {name: one for name, one in found.items() if decides(name)}


def decides(name: str) -> bool:
    """Return whether a setting decides the numbers of a run."""
    return not any(re.search(pattern, name) for pattern in MAY_CHANGE)


def of_content(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Change]:
    """Return by its name everything that differs between two flat records; None stands for what is missing."""
    pairs = {name: Change(before.get(name), now.get(name)) for name in sorted(before.keys() | now.keys())}
    return {name: one for name, one in pairs.items() if one.before != one.now}


def refuse(
    changes: Mapping[str, Change], allowed: Sequence[str], wrong: type[CodexError], says: str, way_out: str
) -> None:
    """Raise `wrong`, with a line for each, when there are changes that checkpoint.allow_change does not name."""
    if refused := beyond(changes, allowed):
        raise wrong(
            "\n".join([says, *lines(refused)])
            + f"\n{way_out}, or go on with what is changed: --config.checkpoint.allow_change={','.join(changes)}"
        )


def beyond(changes: Mapping[str, Change], allowed: Sequence[str]) -> dict[str, Change]:
    """Return the changes that are not allowed."""
    return {name: one for name, one in changes.items() if name not in allowed}


def refuse_unknown(allowed: Sequence[str], known: Iterable[str]) -> None:
    """Raise ConfigError when something is allowed that is no setting and no content of the data."""
    names = sorted(known)
    if unknown := [f"{name}{schema.nearest(name, names)}" for name in allowed if name not in names]:
        raise ConfigError(f"checkpoint.allow_change names what is neither a setting nor data: {', '.join(unknown)}")


def lines(changes: Mapping[str, Change]) -> list[str]:
    """Return a line for each change, to be shown."""
    return [
        f"  {name}: {schema.shown(one.before)} in the checkpoint, {schema.shown(one.now)} now"
        for name, one in changes.items()
    ]
