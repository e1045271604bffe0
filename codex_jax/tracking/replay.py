"""Make a copy of a run anew from its ledger: after a server was down, or for a tool that was not on."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax import config, rundir
from codex_jax.errors import AssetError, CodexError, TrainingStopped
from codex_jax.tracking import calls, ledger, registry
from codex_jax.tracking.sink import Source, why


# How a run ended, as events and sinks name it.
STATUS = {"finished": "finished", "interrupted": "interrupted", "stopped": "failed"}


def replay(workdir: Path, name: str, tracking: config.Tracking, settings: Mapping[str, Any]) -> dict[str, int]:
    """Write the whole ledger to the sink `name`, which may be off, and return how much it took of each kind.

    To do so twice adds nothing. Raises ConfigError as `registry.checked` does and when the run is at work, AssetError
    when the ledger is damaged, TrainingStopped when the sink fails, saying how.
    """
    kind = registry.checked(name, tracking)
    run_id, status, tags = _facts(workdir)
    source = Source(workdir, run_id, settings, tags, tracking)
    taken: Counter[str] = Counter()
    with rundir.claim(workdir):
        try:
            sink = kind(source)
            for method, arguments in calls.history(source):
                getattr(sink, method)(*arguments)
                taken[method] += kind.takes(method)
            sink.close(status)
        except CodexError:
            raise
        except Exception as error:  # a sink may raise whatever its package does
            raise TrainingStopped(
                f"{name} did not take all of {workdir}: {why(error)}. The ledger is as it was"
            ) from error
    return {method: count for method, count in taken.items() if count}


def _facts(workdir: Path) -> tuple[str, str, dict[str, str]]:
    """Return the id of the run, how it ended, and what is shown where runs are listed."""
    run_id, status, tags = "", "failed", {}
    for row in ledger.read(workdir / ledger.EVENTS):
        run_id = run_id or str(row["run_id"])
        if row["event"] in ("run.started", "run.resumed"):
            status = "failed"  # until it says how it ended
            tags = {"safety.bypass": str(reason)} if (reason := row.get("safety", {}).get("reason")) else {}
        elif row["event"] == "run.finished":
            status = STATUS.get(str(row.get("status")), "failed")
    if not run_id:
        raise AssetError(f"{workdir / ledger.EVENTS} holds no event: there is nothing to copy")
    return run_id, status, tags
