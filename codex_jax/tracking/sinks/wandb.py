"""wandb/: the run as a Weights & Biases run, offline unless told otherwise; then `wandb sync` sends it."""

import glob
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from codex_jax import config
from codex_jax.tracking.sink import Sink, Source


EXIT_CODES = {"finished": 0, "interrupted": 75, "failed": 1}
MOST_BUCKETS = 512  # of a histogram


class WandbSink(Sink):
    """Logs to WORKDIR/wandb; offline a resumed run keeps its id, and its newest directory holds the whole run.

    Online nothing that was sent can be taken back: each process of a run is a W&B run of its own with the whole
    history, all of them in one group.
    """

    package = "wandb"

    def __init__(self, source: Source) -> None:
        # Read when wandb is imported; its error reports go out even for offline runs.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        self._wandb, options = wandb, source.tracking.wandb
        is_online = options.mode == "online"
        for stale in source.workdir.glob(f"wandb/offline-run-*-{glob.escape(source.run_id)}"):
            shutil.rmtree(stale)
        self._run = wandb.init(
            project=options.project,
            entity=options.entity or None,
            id=f"{source.run_id}-{secrets.token_hex(3)}" if is_online else source.run_id,
            group=source.run_id if is_online else None,
            dir=str(source.workdir),
            mode="online" if is_online else "offline",
            config=dict(source.settings),
            tags=list(dict.fromkeys([*options.tags, *source.tags])),
            # Off: what wandb would record about the machine, the command line, the repository and the terminal.
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                host="",
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

    @classmethod
    def address(cls, tracking: config.Tracking) -> str:
        """Return W&B's server, or that of WANDB_BASE_URL, when the run is online."""
        return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai") if tracking.wandb.mode == "online" else ""

    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Log the values as split/name."""
        self._run.log({f"{split}/{name}": value for name, value in values.items()} | {"step": step, "time": time})

    def text(self, step: int, name: str, text: str, time: float) -> None:
        """Log a sample as a value of type string."""
        self._run.log({f"sample/{name}": text, "step": step, "time": time})

    def histogram(self, step: int, name: str, edges: Sequence[float], counts: Sequence[int], time: float) -> None:
        """Log a histogram; neighbouring buckets are put together where there are more than W&B takes."""
        width = -(-len(counts) // MOST_BUCKETS)
        sums = [sum(counts[start : start + width]) for start in range(0, len(counts), width)]
        limits = [*edges[:-1:width], edges[-1]]
        shown = self._wandb.Histogram(np_histogram=(np.array(sums), np.array(limits)))
        self._run.log({name: shown, "step": step, "time": time})

    def figure(self, step: int, name: str, path: Path, time: float) -> None:
        """Log a picture."""
        self._run.log({name: self._wandb.Image(str(path)), "step": step, "time": time})

    def artifact(self, step: int, name: str, path: Path, time: float) -> None:
        """Add a copy to the files of the run."""
        copy = Path(self._run.dir) / path.name
        shutil.copyfile(path, copy)
        self._run.save(str(copy), base_path=self._run.dir, policy="now")

    def flush(self) -> None:
        """Do nothing: wandb's own process writes as rows arrive."""

    def close(self, status: str) -> None:
        """Finish the run with an exit code."""
        self._run.finish(exit_code=EXIT_CODES[status])
