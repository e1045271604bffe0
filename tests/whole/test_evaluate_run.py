"""`codex-jax evaluate`: all of a held-out split, as training measures it; nothing but the run's own data and files."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax.checkpoint import manifest
from codex_jax.cli import app


pytestmark = pytest.mark.infra

# Enough batches for the whole split, so that the run itself says what is expected; rows for eight devices.
ALL = {
    "eval.num_batches": 200,
    "train.num_steps": 8,
    "train.global_batch_size": 8,
    "train.microbatch_size": 8,
    "data.test_fraction": 0.2,
}


@pytest.fixture(scope="module", params=["stream", pytest.param("store", marks=pytest.mark.slow)])
def run(request: pytest.FixtureRequest, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run; its order came from a variable that is not set any more."""
    root = tmp_path_factory.mktemp(request.param)
    corpus = small_run.write_corpus(root / "corpus")
    args = small_run.arguments(corpus, root / "run", {**ALL, "data.mode": request.param})
    small_run.finish(args, {**main_env, "CODEX_DATA_SEED": "5"})
    return root / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage; its data lie where they lay."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def evaluate(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, Any]:
    capsys.readouterr()
    assert app.main(["evaluate", *map(str, args), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def metrics(run: Path, step: int) -> dict[str, float]:
    (row,) = [row for row in small_run.metric_rows(run) if row["split"] == "validation" and row["step"] == step]
    found: dict[str, float] = row["metrics"]
    return found


def test_validation_is_what_training_measured_on_all_of_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    found = evaluate(capsys, run)
    expected = metrics(run, 8)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    (counts,) = [row for row in small_run.replayed_events(run) if row["event"] == "data.validation"]
    assert (found["step"], found["split"], found["documents"]) == (8, "validation", counts["trained"])
    assert found["tokens"] > 2000 and found["quarantined"] == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before  # nothing was written


@pytest.fixture(scope="module")
def weights(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the run has learnt, in Hugging Face's form."""
    directory = tmp_path_factory.mktemp("exported") / "weights"
    assert app.main(["model", "export", str(run), str(directory)]) == 0
    return directory


def data_of(run: Path) -> list[str]:
    """The settings of a run's data, for weights, which have none."""
    written = json.loads((run / "config.json").read_text())["settings"]["data"]
    names = (
        "paths",
        "mode",
        "sequence_length",
        "document_bytes",
        "window_bytes",
        "validation_fraction",
        "test_fraction",
    )
    same = {**{name: written[name] for name in names}, "paths": ",".join(written["paths"]), "seed": 5}
    return [f"--config.data.{name}={value}" for name, value in same.items()]


def test_exported_weights_are_as_good_and_in_few_bits_nearly(
    run: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, data = evaluate(capsys, run), data_of(run)
    found = evaluate(capsys, weights, *data)
    assert found["step"] is None and found["run"] == str(weights)
    for name in ("documents", "tokens", "loss", "perplexity", "token_accuracy"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    for mode, most in (("int8", 0.002), ("nf4", 0.02)):
        coded = evaluate(capsys, weights, *data, f"--config.quantization.mode={mode}")
        assert 0 < abs(coded["loss"] - expected["loss"]) < most
    assert app.main(["evaluate", str(weights), "--step=3"]) == 2
    assert app.main(["evaluate", str(weights), *data]) == 0
    assert "weights\n" in capsys.readouterr().out


def test_weights_are_not_evaluated_in_rows_that_devices_cannot_share_or_by_an_objective_of_other_models(
    run: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, 2, weights, *data_of(run), "--config.train.global_batch_size=4")
    assert "train.global_batch_size=4 does not divide over the 8 devices" in said
    masked = ("--config.data.objective=masked", "--config.data.isolate_documents=true")
    said = refused(capsys, 2, weights, *data_of(run), *masked)
    assert "a model of family gpt2 is trained by data.objective=causal" in said


# Of a store the texts are in other files with a bypass, and there are none.
@pytest.mark.parametrize("run", ["stream"], indirect=True)
def test_what_is_let_through_is_said_when_weights_are_evaluated(
    run: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    let_through = ("--config.safety.bypass=true", "--config.safety.bypass_reason=a drill")
    capsys.readouterr()
    assert app.main(["evaluate", str(weights), *data_of(run), *let_through]) == 0
    assert "is let through. The reason given: a drill" in capsys.readouterr().err


def rewrite(run: Path, section: str, **changes: object) -> None:
    """Let a run and its checkpoint have been made with other settings."""
    checkpoint = run / "checkpoints" / "8"
    for path, keys in ((run / "config.json", ()), (checkpoint / "meta.json", ("meta",))):
        written = json.loads(path.read_text())
        functools.reduce(dict.get, (*keys, "settings", section), written).update(changes)
        path.write_text(json.dumps(written))
    (checkpoint / "manifest.json").unlink()
    manifest.write(checkpoint)


def test_run_is_not_evaluated_in_rows_that_devices_cannot_share(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(copy, "train", global_batch_size=4, microbatch_size=4)
    assert "train.microbatch_size=4 does not divide over the 8 devices" in refused(capsys, 2, copy)


# Of a store the texts are in other files with a bypass, and there are none.
@pytest.mark.parametrize("run", ["stream"], indirect=True)
def test_what_a_run_lets_through_is_said_when_it_is_evaluated(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(copy, "safety", bypass=True, bypass_reason="a drill")
    assert app.main(["evaluate", str(copy)]) == 3  # its texts were stopped
    said = capsys.readouterr().err
    assert "is let through. The reason given: a drill" in said and "safety: " in said


def test_test_split_and_an_older_step(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test, older = evaluate(capsys, run, "--split=test"), evaluate(capsys, run, "--step=4")
    assert test["split"] == "test" and test["documents"] > 20
    assert test["loss"] != evaluate(capsys, run)["loss"]
    assert older["step"] == 4 and older["loss"] > evaluate(capsys, run)["loss"]


def test_text_for_people_fits_in_80_columns(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["evaluate", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "split", "tokens", "loss", "perplexity", "accuracy"]
    assert all(len(line) <= 80 for line in lines[1:])


def flip(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


def refused(capsys: pytest.CaptureFixture[str], code: int, *args: object) -> str:
    capsys.readouterr()
    assert app.main(["evaluate", *map(str, args)]) == code
    said = capsys.readouterr()
    assert "loss" not in said.out
    return said.err


def test_damaged_checkpoint_is_named_and_no_other_taken(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(copy / "checkpoints" / "8" / "meta.json")
    said = refused(capsys, 3, copy)
    assert "checkpoint 8 is damaged" in said and "meta.json" in said and "--step=4" in said
    assert "meta.json" in refused(capsys, 3, copy, "--step=8")
    assert "has no checkpoint of step 7; those it has: 8, 4" in refused(capsys, 3, copy, "--step=7")
    assert evaluate(capsys, copy, "--step=4")["step"] == 4


def test_other_tokenizer_settings_or_data_are_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "tokenizer" / "tokenizer.json"
    held = json.loads(path.read_text())
    merges = held["model"]["merges"]
    path.write_text(json.dumps({**held, "model": {**held["model"], "merges": merges[:-1]}}))
    assert "is not the tokenizer of checkpoint 8" in refused(capsys, 3, copy)
    path.write_text(json.dumps(held))
    settings = json.loads((copy / "config.json").read_text())
    corpus = Path(settings["settings"]["data"]["paths"][0])
    other = small_run.write_corpus(copy.parent / "corpus", seed=1)
    said = refused(capsys, 3, copy, f"--config.data.paths={other}")
    assert "data.corpus: " in said or "holds no finished store" in said  # which is named after what it holds
    shutil.rmtree(other)
    shutil.copytree(corpus, other)
    assert "made with" in refused(capsys, 2, copy, "--config.model.num_layers=1")
    settings["settings"]["data"]["validation_fraction"] = 0.3
    (copy / "config.json").write_text(json.dumps(settings))
    assert "data.validation_fraction: 0.2 in the checkpoint, 0.3 now" in refused(capsys, 3, copy)
    (copy / "config.json").write_text("{")
    assert "config.json is damaged" in refused(capsys, 3, copy)
    assert "neither the directory of a run nor one of weights" in refused(capsys, 3, copy.parent)


def test_data_may_lie_elsewhere(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = json.loads((copy / "config.json").read_text())["settings"]
    shutil.copytree(settings["data"]["paths"][0], copy.parent / "moved")
    moved = evaluate(capsys, copy, f"--config.data.paths={copy.parent / 'moved'}")
    assert moved["loss"] == evaluate(capsys, copy)["loss"]
