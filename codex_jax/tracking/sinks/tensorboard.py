"""tensorboard/: scalars, samples and settings for TensorBoard, written by tensorboardX without TensorFlow."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax.tracking.sink import Sink


class TensorBoardSink(Sink):
    """Writes one event file into WORKDIR/tensorboard; TensorBoard holds scalars as float32."""

    def __init__(self, workdir: Path, settings: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)  # it warns of every nan; the ledger lists them
        directory = workdir / "tensorboard"
        stale = list(directory.glob("events.out.tfevents.*"))
        for path in stale:
            path.unlink(missing_ok=True)
        # A TensorBoard that is looking on drops what it has read from step 0 on when the new file says so.
        self._writer = SummaryWriter(str(directory), purge_step=0 if stale else None)
        self._writer.add_text("settings", _literal(json.dumps(settings, indent=2)), 0)

    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Add every value as the scalar split/name."""
        for name, value in values.items():
            self._writer.add_scalar(f"{split}/{name}", value, step, walltime=time)

    def text(self, step: int, name: str, text: str, time: float) -> None:
        """Add a sample to the text tab."""
        self._writer.add_text(f"sample/{name}", _literal(text), step, walltime=time)

    def flush(self) -> None:
        """Write out the events."""
        self._writer.flush()

    def close(self, status: str) -> None:
        """Close the event file; TensorBoard knows no status of a run."""
        self._writer.close()


def _literal(text: str) -> str:
    """Return Markdown that shows `text` as it is."""
    return "\n".join("    " + line for line in text.split("\n"))
