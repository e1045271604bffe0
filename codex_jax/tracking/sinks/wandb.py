"""wandb/: the run as an offline Weights & Biases run; nothing is sent until the user runs `wandb sync` on it."""

import glob
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax.tracking.sink import Sink


EXIT_CODES = {"finished": 0, "interrupted": 75, "failed": 1}


class WandbSink(Sink):
    """Logs to WORKDIR/wandb/offline-run-*; a resumed run keeps its id, and its newest directory holds the whole run."""

    def __init__(self, workdir: Path, run_id: str, settings: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        # Read when wandb is imported; its error reports go out even for offline runs.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        for stale in workdir.glob(f"wandb/offline-run-*-{glob.escape(run_id)}"):
            shutil.rmtree(stale)
        self._run = wandb.init(
            project="codex_jax",
            id=run_id,
            dir=str(workdir),
            mode="offline",
            config=dict(settings),
            tags=list(tags),
            # Off: what wandb would record about the machine, the command line, the repository and the terminal.
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                save_code=False,
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        # Its own step must never go back; ours is a value like the others, so rows may come in any order.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Log the values as split/name."""
        self._run.log({f"{split}/{name}": value for name, value in values.items()} | {"step": step, "time": time})

    def text(self, step: int, name: str, text: str, time: float) -> None:
        """Log a sample as a value of type string."""
        self._run.log({f"sample/{name}": text, "step": step, "time": time})

    def flush(self) -> None:
        """Do nothing: wandb's own process writes as rows arrive."""

    def close(self, status: str) -> None:
        """Finish the run with an exit code."""
        self._run.finish(exit_code=EXIT_CODES[status])
