"""A run made once more from its record: what is the same from the start, in a process of its own, up to one step."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax import changes, rundir, schema
from codex_jax.checkpoint import layout, store
from codex_jax.checkpoint.store import Found
from codex_jax.console import say, warn
from codex_jax.errors import AssetError, ConfigError, Interrupted, TrainingStopped


_LOOK_SECS = 0.2
_WITHHELD = ("[REDACTED:", "[BLOCKED:")


class Plan(NamedTuple):
    """How a run is made once more."""

    step: int
    """of the checkpoint it is compared with"""
    pairs: list[tuple[str, str]]
    """settings that are not as in its config.json: none that decides a number"""
    variables: dict[str, str]
    """of the environment"""
    is_last: bool
    """whether the run ends at that step of itself"""


def target(run: Path, step: int | None) -> Found:
    """Return the checkpoint to come to: that of a step, or the newest that is whole; AssetError when there is none."""
    rundir.read_settings(run)  # says when it is no run
    root = run / "checkpoints"
    if step is not None:
        return store.find(root, step)
    found = store.find_newest(root)
    if found is None:
        raise AssetError(f"{root} has no checkpoint: there is nothing to compare with")
    for other, reason in found.skipped:
        warn(f"checkpoint {other} is not used: {reason}")
    return found


def plan(run: Path, found: Found, given: Sequence[tuple[str, str]]) -> Plan:
    """Return how to come to the checkpoint `found` of a run with the settings of its config.json.

    Raises ConfigError for a setting among `given` that decides numbers, AssetError for one that was not written down.
    """
    if deciding := [name for name, _ in given if changes.decides(name)]:
        raise ConfigError(f"{', '.join(deciding)} decides numbers: with another value it would be another run")
    written = rundir.read_settings(run)
    flat = dict(schema.flatten(written))
    named = dict(given)
    withheld = [
        name for name in flat if name not in named and any(word in json.dumps(flat[name]) for word in _WITHHELD)
    ]
    if withheld:
        raise AssetError(
            f"{run / 'config.json'} does not hold {', '.join(withheld)}, which the safety policy took out; say it: "
            f"--config.{withheld[0]}=..."
        )
    own = {**_saves(flat, found.step), **_alone(flat), **_without_copies(flat), **_tokenizer(run, flat)}
    seed = found.data_state.get("fingerprint", {}).get("data.seed")
    variables = {} if flat.get("data.seed", -1) >= 0 or seed is None else {"CODEX_DATA_SEED": str(seed)}
    pairs = [(name, str(value)) for name, value in {**own, **named}.items()]
    return Plan(found.step, pairs, variables, found.step == flat["train.num_steps"])


def _saves(flat: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return what makes the run save that step and keep it; where it goes back after spikes, when it saves decides."""
    every = flat["checkpoint.every_steps"]
    own = {"checkpoint.every_minutes": 0.0, "checkpoint.keep_best": 0, "checkpoint.on_failure": "stop"}
    if step % every == 0:
        return {**own, "checkpoint.keep_every": step}
    if step == flat["train.num_steps"]:
        return {**own, "checkpoint.keep_every": 0}
    if flat.get("train.max_rewinds"):
        raise AssetError(
            f"step {step} was saved when a signal came, and with train.max_rewinds={flat['train.max_rewinds']} it "
            "decides when a run saves: this checkpoint cannot be made again; one of checkpoint.every_steps can: --step"
        )
    return {**own, "checkpoint.every_steps": step, "checkpoint.keep_every": step}


def _alone(flat: Mapping[str, Any]) -> dict[str, Any]:
    if flat.get("parallel.num_processes", 1) == 1 and not flat.get("parallel.coordinator"):
        return {}
    return {"parallel.coordinator": "", "parallel.num_processes": 1, "parallel.process_index": 0}


def _without_copies(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {f"tracking.{name}.enabled": "false" for name in ("mlflow", "wandb") if flat.get(f"tracking.{name}.enabled")}


def _tokenizer(run: Path, flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's own copy of a tokenizer that is no longer where it was; its digest is compared later."""
    path = flat.get("tokenizer.path")
    if not path or Path(path).expanduser().exists():
        return {}
    say(f"tokenizer  {run / 'tokenizer'}, for {path} is gone")
    return {"tokenizer.path": run / "tokenizer"}


def make(run: Path, workdir: Path, planned: Plan, quiet: bool, look: Callable[[], None]) -> None:
    """Train in `workdir` up to the planned step, and call `look` once its provenance.json is there.

    What a process before this one has begun there goes on, or is looked at if it came so far. Raises what ended the
    training, or what `look` raises.
    """
    made = workdir / "provenance.json"
    reached = layout.path_of(workdir / "checkpoints", planned.step)
    if reached.exists() and made.exists():
        return look()
    before = made.stat().st_mtime_ns if made.exists() else 0
    command = [sys.executable, "-m", "codex_jax.main", f"--config={run / 'config.json'}", f"--workdir={workdir}"]
    command += [f"--config.{name}={value}" for name, value in planned.pairs]
    # What is printed stays apart from JSON.
    process = subprocess.Popen(
        command, env={**os.environ, **planned.variables}, stdin=subprocess.DEVNULL, stdout=sys.stderr if quiet else None
    )
    looked = False
    try:
        while process.poll() is None and not reached.exists():
            time.sleep(_LOOK_SECS)
            if not looked and made.exists() and made.stat().st_mtime_ns != before:
                looked = True
                look()
        if planned.is_last and reached.exists():
            process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # it saves where it is, so that it could go on
        code = process.wait()
    if not reached.exists():
        _refuse(code, planned.step)
    if not looked:
        look()


def _refuse(code: int, step: int) -> None:
    kinds = {2: ConfigError, 3: AssetError, 75: Interrupted}
    raise kinds.get(code, TrainingStopped)(
        f"the run ended again before step {step}: exit code {code}, as it says above"
    )
