"""metrics.csv: one value a line, ready for a spreadsheet or a data frame."""

import csv
from collections.abc import Mapping

from codex_jax.tracking.sink import Sink, Source


COLUMNS = ("step", "split", "name", "value", "time")


class CsvSink(Sink):
    """Writes WORKDIR/metrics.csv; numbers are written so that reading them back gives the same number."""

    def __init__(self, source: Source) -> None:
        self._file = open(source.workdir / "metrics.csv", "w", encoding="utf-8", errors="replace", newline="")  # noqa: SIM115
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)

    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Write one line a value."""
        self._rows.writerows((step, split, name, value, time) for name, value in values.items())

    def flush(self) -> None:
        """Hand the lines to the operating system."""
        self._file.flush()

    def close(self, status: str) -> None:
        """Close the file; the table has no place for a status."""
        self._file.close()
