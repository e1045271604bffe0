"""tensorboard/: numbers, samples, histograms, figures, settings for TensorBoard, by tensorboardX without TensorFlow."""

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from codex_jax.tracking.sink import Sink, Source


class TensorBoardSink(Sink):
    """Writes one event file into WORKDIR/tensorboard; TensorBoard holds scalars as float32."""

    package = "tensorboardX"

    def __init__(self, source: Source) -> None:
        from tensorboardX import SummaryWriter

        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)  # it warns of every nan; the ledger lists them
        directory = source.workdir / "tensorboard"
        stale = list(directory.glob("events.out.tfevents.*"))
        for path in stale:
            path.unlink(missing_ok=True)
        # A TensorBoard that is looking on drops what it has read from step 0 on when the new file says so.
        self._writer = SummaryWriter(str(directory), purge_step=0 if stale else None)
        self._writer.add_text("settings", _literal(json.dumps(source.settings, indent=2)), 0)

    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Add every value as the scalar split/name."""
        for name, value in values.items():
            self._writer.add_scalar(f"{split}/{name}", value, step, walltime=time)

    def text(self, step: int, name: str, text: str, time: float) -> None:
        """Add a sample to the text tab."""
        self._writer.add_text(f"sample/{name}", _literal(text), step, walltime=time)

    def histogram(self, step: int, name: str, edges: Sequence[float], counts: Sequence[int], time: float) -> None:
        """Add it to the histograms tab; sums are those of values in the middle of their bucket."""
        middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
        self._writer.add_histogram_raw(
            name,
            min=edges[0],
            max=edges[-1],
            num=sum(counts),
            sum=sum(count * middle for count, middle in zip(counts, middles, strict=True)),
            sum_squares=sum(count * middle**2 for count, middle in zip(counts, middles, strict=True)),
            bucket_limits=list(edges[1:]),
            bucket_counts=list(counts),
            global_step=step,
            walltime=time,
        )

    def figure(self, step: int, name: str, path: Path, time: float) -> None:
        """Add the file as it is to the images tab."""
        from tensorboardX.proto.summary_pb2 import Summary

        content = path.read_bytes()
        width, height = (int.from_bytes(content[place : place + 4], "big") for place in (16, 20))  # PNG's first chunk
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=content)
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        self._writer.file_writer.add_summary(summary, step, time)

    def flush(self) -> None:
        """Write out the events."""
        self._writer.flush()

    def close(self, status: str) -> None:
        """Close the event file; TensorBoard knows no status of a run."""
        self._writer.close()


def _literal(text: str) -> str:
    """Return Markdown that shows `text` as it is."""
    return "\n".join("    " + line for line in text.split("\n"))
