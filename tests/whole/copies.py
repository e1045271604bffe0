"""What each copy of a run holds, read back without the code that wrote it: values by step and name."""

import contextlib
import csv
import json
import math
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from codex_jax.tracking import ledger


Values = dict[tuple[int, str], float | None]  # None: not finite


def of_ledger(workdir: Path) -> Values:
    """Return the numbers of the ledger."""
    rows = ledger.read(workdir / ledger.METRICS)
    return once((row["step"], f"{row['split']}/{name}", at) for row in rows for name, at in row["metrics"].items())


def of_csv(workdir: Path) -> Values:
    """Return the numbers of metrics.csv."""
    with open(workdir / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return once((int(row["step"]), f"{row['split']}/{row['name']}", float(row["value"])) for row in rows)


def of_tensorboard(workdir: Path) -> Values:
    """Return the numbers of the event files, read by TensorBoard's own reader; they are float32."""
    found = tensorboard_events(workdir)
    return once((event.step, name, event.value) for name in found.Tags()["scalars"] for event in found.Scalars(name))


def tensorboard_events(workdir: Path) -> Any:
    """Return TensorBoard's own reader, which has read all there is."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    whole = {"scalars": 0, "tensors": 0, "histograms": 0, "images": 0}
    found = EventAccumulator(str(workdir / "tensorboard"), size_guidance=whole)
    found.Reload()
    return found


def of_mlflow(database: Path, run_id: str = "") -> Values:
    """Return the numbers of the live runs of an MLflow database, of one run of ours where it is named."""
    rows = query(
        database,
        "SELECT step, key, value, is_nan FROM metrics JOIN runs USING (run_uuid) WHERE lifecycle_stage = 'active' "
        "AND (? = '' OR run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'codex_jax.run_id' AND value = ?))",
        run_id,
        run_id,
    )
    return once((step, key, math.nan if is_nan else value) for step, key, value, is_nan in rows)


def query(database: Path, sql: str, *parameters: str) -> list[Any]:
    """Ask an SQLite file."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql, parameters).fetchall()


def of_wandb(workdir: Path) -> Values:
    """Return the numbers of the one W&B run in WORKDIR/wandb."""
    rows = [row for row in map(row_of, wandb_records(workdir)) if row]
    kept = [(row["step"], name, at) for row in rows if not _is_picture(row) for name, at in row.items() if "/" in name]
    return once((step, name, float(at)) for step, name, at in kept if isinstance(at, (int, float)) or at == "NaN")


def _is_picture(row: dict[str, Any]) -> bool:
    return any(name.endswith("/_type") for name in row)


def wandb_records(workdir: Path) -> Iterator[Any]:
    """Yield the records of the .wandb file, which is in LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    (path,) = workdir.glob("wandb/*run-*/run-*.wandb")
    data, record, offset = path.read_bytes(), b"", 7
    while offset < len(data):  # blocks of 32 KB, pieces of records with a header of 7 bytes
        room = 32768 - offset % 32768
        if room < 7:
            offset += room
            continue
        length, kind = struct.unpack_from("<HB", data, offset + 4)
        record += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def row_of(record: Any) -> dict[str, Any]:
    """Return what was logged at one time, by name."""
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}


def once(points: Iterable[tuple[int, str, float | None]]) -> Values:
    """Return the points by step and name; a name that is there twice at a step is an error.

    What the machine was at is left out: it may be looked at several times in a step.
    """
    listed = [point for point in points if not point[1].startswith("system/")]
    found = {(step, name): None if value is None or not math.isfinite(value) else value for step, name, value in listed}
    assert len(found) == len(listed), "a value is there twice"
    return found
