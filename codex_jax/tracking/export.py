"""The numbers of a run as one file for other programs: CSV, SQLite or Parquet; a row a value."""

import contextlib
import csv
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from codex_jax import atomic
from codex_jax.errors import ConfigError, TrainingStopped
from codex_jax.tracking import calls, ledger


COLUMNS = ("step", "split", "name", "value", "time")
AT_ONCE = 100_000  # rows in memory

Row = tuple[int, str, str, float | None, float]


def export(workdir: Path, file: Path) -> int:
    """Write all metrics to a new file and return how many values it holds; its ending says the format.

    What was not finite is empty, or null. Raises ConfigError when the file is there or its ending is another,
    AssetError when the ledger is missing or damaged, TrainingStopped when there is no room.
    """
    write = FORMATS.get(file.suffix.lower())
    if write is None:
        raise ConfigError(f"{file}: its ending says no format; take one of {', '.join(FORMATS)}")
    if file.exists():
        raise ConfigError(f"{file} is there already: remove it or name another")
    count = 0

    def rows() -> Iterator[Row]:
        nonlocal count
        for row in values(workdir):
            count += 1
            yield row

    draft = file.with_name(file.name + ".part")
    try:
        write(draft, rows())
        atomic.sync(draft)
        draft.rename(file)
    except OSError as error:
        raise atomic.refused(file, error) from error
    except sqlite3.Error as error:
        raise TrainingStopped(f"cannot write {file}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return count


def values(workdir: Path) -> Iterator[Row]:
    """Yield every value of the ledger, in its order, then what the machine was at."""
    for row in itertools.chain(ledger.read(workdir / ledger.METRICS), calls.machine(workdir)):
        for name, value in row["metrics"].items():
            yield row["step"], row["split"], name, value, row["time"]


def _to_csv(file: Path, rows: Iterator[Row]) -> None:
    with open(file, "w", encoding="utf-8", errors="replace", newline="") as out:
        table = csv.writer(out)
        table.writerow(COLUMNS)
        table.writerows(rows)


def _to_sqlite(file: Path, rows: Iterator[Row]) -> None:
    file.unlink(missing_ok=True)  # of an export that was killed
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE metrics (step INTEGER, split TEXT, name TEXT, value REAL, time REAL)")
        database.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("CREATE INDEX by_name ON metrics (split, name, step)")


def _to_parquet(file: Path, rows: Iterator[Row]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(f"Parquet files need pyarrow: pip install 'codex-jax[parquet]' ({error})") from error
    kinds = (pyarrow.int64(), pyarrow.string(), pyarrow.string(), pyarrow.float64(), pyarrow.float64())
    schema = pyarrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    with parquet.ParquetWriter(file, schema) as out:
        while part := list(itertools.islice(rows, AT_ONCE)):
            steps, splits, names, numbers, times = zip(*part, strict=True)
            floats = [None if number is None else float(number) for number in numbers]  # a large int is not taken
            out.write_table(pyarrow.table([steps, splits, names, floats, times], schema=schema))


FORMATS: dict[str, Callable[[Path, Iterator[Row]], None]] = {
    ".csv": _to_csv,
    ".sqlite": _to_sqlite,
    ".parquet": _to_parquet,
}
