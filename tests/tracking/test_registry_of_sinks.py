"""Which sinks a run has: by their knobs, by the names of a package's, and refused before anything is written."""

import subprocess
import sys

import mlflow_servers
import pytest
import small_writer

from codex_jax import config, digest, overrides, schema
from codex_jax.errors import ConfigError
from codex_jax.tracking import ledger, registry
from codex_jax.tracking.sinks import mlflow_address


pytestmark = pytest.mark.infra

PLUGIN = """
import json
from codex_jax.tracking.sink import Sink

class Lines(Sink):
    def __init__(self, source):
        self.file = open(source.workdir / "lines.jsonl", "w")
    def scalars(self, step, split, values, time):
        print(json.dumps(["scalars", step, split, values]), file=self.file)
    def text(self, step, name, text, time):
        print(json.dumps(["text", step, name, text]), file=self.file)
    def histogram(self, step, name, edges, counts, time):
        print(json.dumps(["histogram", step, name, list(counts)]), file=self.file)
    def artifact(self, step, name, path, time):
        print(json.dumps(["artifact", step, name, path.read_text()]), file=self.file)
    def flush(self):
        self.file.flush()
    def close(self, status):
        print(json.dumps(["close", status]), file=self.file)
        self.file.close()

class Away(Lines):
    @classmethod
    def address(cls, tracking):
        return "https://lines.example.org"

class Lacking(Lines):
    package = "a_package_nobody_has"

NUMBER = 3
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with sinks."""
    info = tmp_path / "site" / "line_sinks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: line-sinks\nVersion: 1.0\n")
    names = {"Lines": "Lines", "away": "Away", "lacking": "Lacking", "number": "NUMBER", "gone": "Gone", "csv": "Lines"}
    points = "".join(f"{name} = line_sinks:{part}\n" for name, part in names.items())
    (info / "entry_points.txt").write_text(f"[codex_jax.sinks]\n{points}")
    (tmp_path / "site" / "line_sinks.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(registry.SINKS.__dict__, "_installed", raising=False)
    yield
    registry.SINKS.__dict__.pop("_installed", None)
    sys.modules.pop("line_sinks", None)


def chosen(**changes):
    return registry.chosen(
        small_writer.settings({name.replace("__", "."): at for name, at in changes.items()}).tracking
    )


@pytest.mark.usefixtures("package")
def test_a_sink_of_a_package_is_named_and_gets_all_there_is(tmp_path):
    run = tmp_path / "run"
    with small_writer.switched_on(run, {"plugins": ("lines",), "csv.enabled": False}) as writer:
        (run / "config.json").write_text("{}")
        writer.artifact(0, "config.json", run / "config.json")
        writer.scalars(1, "train", {"loss": 2.5})
        writer.histogram(1, "gradients/wte", [0.0, 0.5, 1.0], [3, 4])
        writer.text(1, "sample", "a b")
    assert (run / "lines.jsonl").read_text().splitlines() == [
        '["artifact", 0, "config.json", "{}"]',
        '["scalars", 1, "train", {"loss": 2.5}]',
        '["histogram", 1, "gradients/wte", [3, 4]]',
        '["text", 1, "sample", "a b"]',
        '["close", "finished"]',
    ]


@pytest.mark.usefixtures("package")
def test_a_file_that_changed_or_lies_elsewhere_is_in_no_copy(tmp_path):
    run, secret = tmp_path / "run", tmp_path / "secret.txt"
    secret.write_text("a secret")
    with small_writer.bare(run) as writer:
        for name in ("kept", "changed", "lost"):
            (run / name).write_text(name)
            writer.artifact(1, name, run / name)
        for file in ("../secret.txt", str(secret), "link"):
            writer.event("artifact", 1, {"name": file, "file": file, "sha256": digest.of_file(secret)})
    (run / "link").symlink_to(secret)
    (run / "changed").write_text("by hand")
    (run / "lost").unlink()
    small_writer.switched_on(run, {"plugins": ("lines",)}, resume_step=1).close("finished")
    told = (run / "lines.jsonl").read_text().splitlines()
    assert told == ['["artifact", 1, "kept", "kept"]', '["close", "finished"]']
    with pytest.raises(ValueError, match="is not in the subpath"), small_writer.bare(run, resume_step=1) as writer:
        writer.artifact(1, "secret", secret)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "has no 'nothing'; there are: away, csv,"),
        ("gone", "cannot be loaded: AttributeError"),
        ("number", "is 3, not a class derived from Sink"),
        ("lacking", "needs the package a_package_nobody_has"),
        ("away", "would send the run to https://lines.example.org, which is not this machine"),
        ("csv", "csv is built in; set tracking.csv.enabled"),
    ],
)
def test_a_sink_that_cannot_be_is_refused(name, says):
    with pytest.raises(ConfigError, match=says.replace("(", "\\(")):
        chosen(plugins=(name,))


@pytest.mark.usefixtures("package")
def test_a_name_that_is_there_twice_is_an_error():
    with pytest.raises(ConfigError, match="defined twice"):
        chosen(csv__enabled=True)


@pytest.mark.usefixtures("package")
def test_that_a_run_goes_to_another_machine_is_said_and_written_down_once(tmp_path, capsys):
    with small_writer.switched_on(tmp_path / "run", {"plugins": ("away",), "allow_remote": True}) as writer:
        for step in (1, 2):
            writer.scalars(step, "train", {"loss": 2.5})
    (row,) = [row for row in ledger.read(tmp_path / "run" / ledger.EVENTS) if row["event"] == "sink.remote"]
    assert (row["sink"], row["address"]) == ("away", "https://lines.example.org")
    assert "lets the sink away send this run to https://lines.example.org" in capsys.readouterr().err


def test_a_missing_package_is_named_at_the_start(monkeypatch):
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        with pytest.raises(
            ConfigError, match=rf"needs the package {name}: install it.*tracking\.{name}\.enabled=false"
        ):
            chosen(**{f"{name}__enabled": True})


IMPORTED = """
import os, random, sys
import numpy
before = {name: at for name, at in os.environ.items() if name.startswith(("MLFLOW", "WANDB", "DO_NOT"))}
seeding = random.seed, numpy.random.seed
from codex_jax import train
from codex_jax.tracking import registry, multi_writer
after = {name: at for name, at in os.environ.items() if name.startswith(("MLFLOW", "WANDB", "DO_NOT"))}
assert after == before, after
assert (random.seed, numpy.random.seed) == seeding
assert not {"mlflow", "wandb", "tensorboardX"} & set(sys.modules)
"""


def test_importing_changes_no_variable_replaces_no_seeding_and_imports_no_tracker():
    env = mlflow_servers.clean_environment()  # this process has imported it already
    done = subprocess.run([sys.executable, "-c", IMPORTED], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("", "sqlite:////runs/a/mlflow.db"),
        ("/data/all.db", "sqlite:////data/all.db"),
        ("sqlite:////data/all.db", "sqlite:////data/all.db"),
        ("http://localhost:5000/", "http://localhost:5000"),
        ("https://mlflow.example.org", "https://mlflow.example.org"),
    ],
)
def test_where_an_mlflow_copy_goes(given, uri):
    assert mlflow_address.tracking_uri(given, small_writer.Path("/runs/a")) == uri


@pytest.mark.parametrize(("given", "place"), [("all.db", "all.db"), ("sqlite:///in/all.db", "in/all.db"), ("~/a", "a")])
def test_where_an_mlflow_copy_goes_is_fixed_when_the_run_begins(given, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mlflow_address.tracking_uri(given, small_writer.Path("run")) == f"sqlite:///{tmp_path / place}"
    assert mlflow_address.tracking_uri("", small_writer.Path("run")) == f"sqlite:///{tmp_path}/run/mlflow.db"


@pytest.mark.parametrize(
    "given", ["file:///data/mlruns", "file:mlruns", "databricks://x", "postgresql://h/d", "http://"]
)
def test_an_mlflow_address_of_another_kind_is_refused(given):
    with pytest.raises(ConfigError, match=r"tracking\.mlflow\.uri="):
        mlflow_address.tracking_uri(given, small_writer.Path("/runs/a"))


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as caught:
        chosen(mlflow__enabled=True, mlflow__uri="https://me:hunter22@mlflow.example.org", allow_remote=True)
    assert "MLFLOW_TRACKING_PASSWORD" in str(caught.value) and "hunter22" not in str(caught.value)


LOCAL = ("", "/data/x.db", "http://localhost:5000", "http://127.0.0.1:1", "http://[::1]:5000", "https://a.localhost")
REMOTE = ("http://mlflow:5000", "https://mlflow.example.org", "http://10.0.0.1", "http://127.0.0.1.example.org")


@pytest.mark.parametrize("uri", LOCAL)
def test_mlflow_on_this_machine_needs_no_leave(uri):
    assert list(chosen(mlflow__enabled=True, mlflow__uri=uri)) == ["mlflow"]


@pytest.mark.parametrize("uri", REMOTE)
def test_mlflow_elsewhere_needs_leave(uri):
    with pytest.raises(ConfigError, match=r"set tracking\.allow_remote=true"):
        chosen(mlflow__enabled=True, mlflow__uri=uri)
    assert list(chosen(mlflow__enabled=True, mlflow__uri=uri, allow_remote=True)) == ["mlflow"]
    assert chosen(mlflow__enabled=False, mlflow__uri=uri) == {}


def test_wandb_online_needs_leave():
    with pytest.raises(ConfigError, match=r"send the run to https://api\.wandb\.ai"):
        chosen(wandb__enabled=True, wandb__mode="online")
    assert list(chosen(wandb__enabled=True, wandb__mode="online", allow_remote=True)) == ["wandb"]


@pytest.mark.parametrize(("value", "uri", "passes"), [("1", REMOTE[0], False), ("1", "", True), ("0", REMOTE[0], True)])
def test_mlflow_offline_forbids_servers_whatever_is_allowed(value, uri, passes, monkeypatch):
    monkeypatch.setenv("MLFLOW_OFFLINE", value)
    if passes:
        assert chosen(mlflow__enabled=True, mlflow__uri=uri, allow_remote=True)
    else:
        with pytest.raises(ConfigError, match="MLFLOW_OFFLINE=1 forbids every server"):
            chosen(mlflow__enabled=True, mlflow__uri=uri, allow_remote=True)


def test_variables_take_the_place_of_defaults_only(monkeypatch):
    for name in overrides.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    monkeypatch.setenv("CODEX_ALLOW_REMOTE_TRACKING", "yes")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    settings, origin = overrides.load("", [("tracking.wandb.project", "ours")])
    found = dict(schema.flatten(config.to_dict(settings)))
    assert (found["tracking.mlflow.uri"], found["tracking.allow_remote"]) == ("http://localhost:1", True)
    assert found["tracking.wandb.project"] == "ours"
    assert origin["tracking.mlflow.uri"] == "variable MLFLOW_TRACKING_URI"


@pytest.mark.parametrize(
    "variable", ["CODEX_ALLOW_REMOTE_TRACKING", "CODEX_MLFLOW_ALLOW_REMOTE", "MLFLOW_ALLOW_REMOTE"]
)
def test_each_variable_of_old_gives_leave_where_nothing_denies_it(variable, monkeypatch):
    for name in overrides.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "on")
    settings, origin = overrides.load("", [])
    assert (settings.tracking.allow_remote, origin["tracking.allow_remote"]) == (True, f"variable {variable}")
    settings, origin = overrides.load("", [("tracking.allow_remote", "false")])
    assert (settings.tracking.allow_remote, origin["tracking.allow_remote"]) == (False, "command line")


def test_the_first_variable_of_a_setting_counts(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    monkeypatch.setenv("CODEX_MLFLOW_URI", "http://localhost:2")
    assert overrides.load("", [])[0].tracking.mlflow.uri == "http://localhost:1"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert overrides.load("", [])[0].tracking.mlflow.uri == "http://localhost:2"
