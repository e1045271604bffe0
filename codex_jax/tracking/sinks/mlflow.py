"""The run in MLflow: an SQLite file, which `mlflow ui --backend-store-uri sqlite:///mlflow.db` shows, or a server."""

import contextlib
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_jax import config, schema
from codex_jax.tracking import calls
from codex_jax.tracking.sink import Sink, Source
from codex_jax.tracking.sinks import mlflow_address


RUN_TAG = "codex_jax.run_id"
BATCH = 1000  # values; the most MLflow takes in one call
PARAMS = 100  # the most parameters
VALUE_CHARS = 6000  # the longest parameter MLflow takes
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
# MLflow's own are 7 tries of 120 s each: a dead server would be waited for for minutes.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.1",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
}


class MlflowSink(Sink):
    """Logs to the store of `tracking.mlflow.uri`; samples, figures and files are artifacts.

    In an SQLite file a resumed run keeps its MLflow run. A server takes back nothing: there a run goes on in the one it
    has as long as all that it holds is still true, else it is thrown into MLflow's bin and written anew.
    """

    package = "mlflow"

    def __init__(self, source: Source) -> None:
        # MLflow sends usage data unless told otherwise before it is imported, and narrates how it makes tables.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
        os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # where --json prints one document
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # of each try; what ends the sink says all
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        uri = mlflow_address.tracking_uri(source.tracking.mlflow.uri, source.workdir)
        self._entities = entities
        self._values: list[Any] = []
        self._began = calls.began(source.workdir)
        self._last = self._began or 0.0
        self._source, self._database = source, mlflow_address.database(uri)
        self._client = MlflowClient(uri, registry_uri=uri)
        self._params = {name: str(value)[:VALUE_CHARS] for name, value in schema.flatten(dict(source.settings))}
        self._run = self._emptied() or self._create_run()
        self._client.update_run(self._run, status="RUNNING")
        for name, value in source.tags.items():
            self._client.set_tag(self._run, name, value[:VALUE_CHARS])
        self._log_params()

    @classmethod
    def address(cls, tracking: config.Tracking) -> str:
        """Return the server's address when it is on another machine."""
        return mlflow_address.elsewhere(mlflow_address.tracking_uri(tracking.mlflow.uri, Path()))

    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Hold back the values as split/name; they are written in batches, 50 times faster than one by one."""
        self._last = max(self._last, time)
        self._values += [
            self._entities.Metric(_allowed(f"{split}/{name}"), float(value), round(time * 1000), step)
            for name, value in values.items()
        ]
        if len(self._values) >= BATCH // 2:
            self.flush()

    def text(self, step: int, name: str, text: str, time: float) -> None:
        """Store a sample as an artifact."""
        folder = re.sub(r"[^\w-]", "_", name)
        self._client.log_text(self._run, text, f"samples/{folder}/{step:08d}.txt")

    def figure(self, step: int, name: str, path: Path, time: float) -> None:
        """Store a picture among the artifacts."""
        self._client.log_artifact(self._run, str(path), "figures")

    def artifact(self, step: int, name: str, path: Path, time: float) -> None:
        """Store a file among the artifacts."""
        self._client.log_artifact(self._run, str(path))

    def flush(self) -> None:
        """Write out the values held back."""
        while self._values:
            self._client.log_batch(self._run, metrics=self._values[:BATCH])
            del self._values[:BATCH]

    def close(self, status: str) -> None:
        """Write out and set the status of the MLflow run, which ends with its last row, whenever that is copied."""
        self.flush()
        end = round(self._last * 1000) if self._last else None
        self._client.set_terminated(self._run, status=STATUS[status], end_time=end)

    def _emptied(self) -> str | None:
        """Return the MLflow run of this run, which holds nothing that is not true; None when there is none."""
        run = self._find_run()
        if run is None:
            return None
        if self._database:
            artifacts = self._artifacts(self._database) / run.info.run_id / "artifacts"
            _forget(self._database, run.info.run_id, artifacts)
            shutil.rmtree(artifacts, ignore_errors=True)
        elif self._is_outdated(run):
            self._client.delete_run(run.info.run_id)
            return None
        return str(run.info.run_id)

    def _find_run(self) -> Any:
        experiment = self._client.get_experiment_by_name(self._source.tracking.mlflow.experiment)
        if experiment is None:
            return None
        wanted = f"tags.`{RUN_TAG}` = '{self._source.run_id}'"
        return next(iter(self._client.search_runs([experiment.experiment_id], wanted)), None)

    def _is_outdated(self, run: Any) -> bool:
        """Return whether it holds a setting that was another, or a value that the ledger has forgotten.

        The newest value of each name tells: what a resume forgets is of later steps than all that it keeps, or younger.
        Values that are there are no harm, since MLflow takes an equal one of the same time once.
        """
        if any(self._params.get(name, value) != value for name, value in run.data.params.items()):
            return True
        step, time = calls.newest(self._source)
        latest = self._client.get_run(run.info.run_id).data._metric_objs  # its public face has no times
        kept = [value for value in latest if not value.key.startswith("system/")]
        return any(value.step > step or value.timestamp > round(time * 1000) for value in kept)

    def _create_run(self) -> str:
        options = self._source.tracking.mlflow
        experiment = self._client.get_experiment_by_name(options.experiment)
        place = self._artifacts(self._database).as_uri() if self._database else None
        number = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(options.experiment, artifact_location=place)
        )
        tags, name = {RUN_TAG: self._source.run_id}, options.run_name or self._source.run_id
        start = None if self._began is None else round(self._began * 1000)
        return str(self._client.create_run(number, start_time=start, tags=tags, run_name=name).info.run_id)

    @staticmethod
    def _artifacts(database: Path) -> Path:
        return database.with_suffix("") if database.suffix else database.with_name(database.name + "-artifacts")

    def _log_params(self) -> None:
        params = [self._entities.Param(name, value) for name, value in self._params.items()]
        for start in range(0, len(params), PARAMS):
            self._client.log_batch(self._run, params=params[start : start + PARAMS])


def _allowed(name: str) -> str:
    """Return a name with nothing in it that MLflow refuses."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _forget(path: Path, run: str, artifacts: Path) -> None:
    """Delete the values of an MLflow run: MLflow's own interface can add points to a curve but not take them back.

    Its artifacts lie beside the file, which may have been moved since.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
        for table in ("metrics", "latest_metrics", "params"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run,))
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (artifacts.as_uri(), run))
