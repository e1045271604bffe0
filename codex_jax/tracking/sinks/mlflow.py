"""mlflow.db: an MLflow run in a local SQLite store; `mlflow ui --backend-store-uri sqlite:///mlflow.db` shows it."""

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax import schema
from codex_jax.tracking.sink import Sink


RUN_TAG = "codex_jax.run_id"
BATCH = 1000  # values; the most MLflow takes in one call
VALUE_CHARS = 6000  # the longest parameter MLflow takes
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MlflowSink(Sink):
    """Logs to WORKDIR/mlflow.db, samples as text files in WORKDIR/mlflow; a resumed run keeps its MLflow run."""

    def __init__(self, workdir: Path, run_id: str, settings: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        # MLflow sends usage data unless told otherwise before it is imported, and narrates how it makes tables.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
        os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        workdir = workdir.resolve()
        self._entities = entities
        self._values: list[Any] = []
        uri = f"sqlite:///{workdir / 'mlflow.db'}"
        self._client = MlflowClient(uri, registry_uri=uri)
        self._run = self._find_run(run_id) or self._create_run(run_id, workdir / "mlflow")
        _forget(workdir / "mlflow.db", self._run)
        shutil.rmtree(workdir / "mlflow", ignore_errors=True)
        self._client.update_run(self._run, status="RUNNING")
        for name, value in tags.items():
            self._client.set_tag(self._run, name, value[:VALUE_CHARS])
        self._log_settings(settings)

    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Hold back the values as split/name; they are written in batches, 50 times faster than one by one."""
        self._values += [
            self._entities.Metric(f"{split}/{name}", float(value), int(time * 1000), step)
            for name, value in values.items()
        ]
        if len(self._values) >= BATCH // 2:
            self.flush()

    def text(self, step: int, name: str, text: str, time: float) -> None:
        """Store a sample as an artifact."""
        folder = re.sub(r"[^\w-]", "_", name)
        self._client.log_text(self._run, text, f"samples/{folder}/{step:08d}.txt")

    def flush(self) -> None:
        """Write out the values held back."""
        while self._values:
            self._client.log_batch(self._run, metrics=self._values[:BATCH])
            del self._values[:BATCH]

    def close(self, status: str) -> None:
        """Write out and set the status of the MLflow run."""
        self.flush()
        self._client.set_terminated(self._run, status=STATUS[status])

    def _find_run(self, run_id: str) -> str | None:
        experiment = self._client.get_experiment_by_name("codex_jax")
        if experiment is None:
            return None
        runs = self._client.search_runs([experiment.experiment_id])
        return next((run.info.run_id for run in runs if run.data.tags.get(RUN_TAG) == run_id), None)

    def _create_run(self, run_id: str, artifacts: Path) -> str:
        experiment = self._client.get_experiment_by_name("codex_jax")
        number = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment("codex_jax", artifact_location=artifacts.as_uri())
        )
        return self._client.create_run(number, tags={RUN_TAG: run_id}, run_name=run_id).info.run_id

    def _log_settings(self, settings: Mapping[str, Any]) -> None:
        params = [
            self._entities.Param(name, str(value)[:VALUE_CHARS]) for name, value in schema.flatten(dict(settings))
        ]
        for start in range(0, len(params), 100):  # the most MLflow takes in one call
            self._client.log_batch(self._run, params=params[start : start + 100])


def _forget(path: Path, run: str) -> None:
    """Delete the values of an MLflow run: MLflow's own interface can add points to a curve but not take them back."""
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
        for table in ("metrics", "latest_metrics", "params"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run,))
