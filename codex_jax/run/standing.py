"""How far the run in a directory has come, and whether these settings may go on with it."""

from typing import Any, NamedTuple

from codex_jax import changes, config, rundir, schema
from codex_jax.changes import Change
from codex_jax.checkpoint import store
from codex_jax.checkpoint.store import Found
from codex_jax.data import position
from codex_jax.errors import AssetError, ConfigError
from codex_jax.run.site import Site
from codex_jax.safety import gate
from codex_jax.safety.gate import Gate
from codex_jax.tracking import ledger, registry
from codex_jax.tracking.sink import Sink


ANEW = "set them back, choose another --workdir"


class Run(NamedTuple):
    """A run that begins, or goes on from a verified checkpoint."""

    settings: config.Config
    origin: dict[str, str]
    """where each setting comes from"""
    site: Site
    guard: Gate
    shown: dict[str, Any]
    """of the settings what may go into a file"""
    run_id: str
    found: Found | None
    changed: dict[str, Change]
    """settings that are not as in the checkpoint, and may"""
    sinks: dict[str, type[Sink]]
    """what makes copies of its ledger, by name"""

    @property
    def step(self) -> int:
        """Return how many updates are done."""
        return self.found.step if self.found else 0

    @property
    def saved(self) -> dict[str, Any] | None:
        """Return what was noted in the checkpoint."""
        return self.found.meta if self.found else None

    @property
    def owes_evaluation(self) -> bool:
        """Return whether a signal came before that step was evaluated, or while it was."""
        return bool(self.found and self.found.meta.get("owes_evaluation"))


def find(settings: config.Config, origin: dict[str, str], site: Site) -> Run:
    """Return the run as it stands; nothing on the disk is changed but for the name it has from its first start.

    Raises AssetError when no checkpoint of several is good or events are missing, ConfigError for other settings.
    """
    team, workdir = site.team, site.workdir
    sinks = registry.chosen(settings.tracking)
    found = store.find_newest_of(team, site.root)
    if team.is_first and found:
        ledger.refuse_lost_events(workdir, found.step, found.meta)
    elif team.is_first:
        ledger.refuse_to_lose_a_run(workdir)
    guard = gate.of(settings.safety)
    shown = guard.outward(config.to_dict(settings))
    run_id = team.decide(lambda: rundir.identify(workdir, found.meta if found else None))
    changed = changes.of_settings(found.meta["settings"], shown) if found else {}
    says = f"{workdir} holds a run with other settings:"
    changes.refuse(changed, settings.checkpoint.allow_change, ConfigError, says, ANEW)
    return Run(settings, origin, site, guard, shown, run_id, found, changed, sinks)


def moved(run: Run, fingerprint: dict[str, Any]) -> dict[str, Change]:
    """Return in what the data are not those of the checkpoint; AssetError when that is not allowed."""
    allowed = run.settings.checkpoint.allow_change
    found = position.differences(run.found.data_state, fingerprint) if run.found else {}
    changes.refuse(found, allowed, AssetError, position.OTHER_DATA, position.WAY_OUT)
    changes.refuse_unknown(allowed, [*dict(schema.flatten(run.shown)), *fingerprint, *found])
    return found
