"""Whatever is wrong with what a user gives, or with the disk: one message, the documented exit code, nothing lost."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import small_run

from codex_jax import main
from codex_jax.checkpoint import manifest
from codex_jax.tracking import ledger


pytestmark = pytest.mark.infra

Refused = Callable[..., str]
EIGHT_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


@pytest.fixture
def refused(run_main: Any, corpus: Path, tmp_path: Path) -> Refused:
    """Run the small run as a process that must end with an exit code and one message, which is returned."""

    def run(code: int, changes: Mapping[str, Any], env: Mapping[str, str] | None = None) -> str:
        done = run_main(small_run.arguments(corpus, tmp_path / "run", changes), env=env)
        return message_of(done, code)

    return run


@pytest.fixture
def usage(capsys: pytest.CaptureFixture[str], corpus: Path, tmp_path: Path) -> Iterator[Callable[[list[str]], str]]:
    """Call the command in this process; return the message of its end with code 2, before a workdir is made."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def call(args: list[str]) -> str:
        base = (
            [] if any(one.startswith("--config=") for one in args) else small_run.arguments(corpus, tmp_path / "r", {})
        )
        code = main.main([*base, *args])
        captured = capsys.readouterr()
        assert (code, captured.out) == (2, "")
        assert captured.err.startswith("codex_jax: ") and not (tmp_path / "r").exists()
        return captured.err

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def message_of(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr and done.stderr.count("codex_jax: ") == 1, done.stderr
    return done.stderr


def events(workdir: Path, name: str) -> list[dict[str, Any]]:
    return [row for row in ledger.read(workdir / ledger.EVENTS) if row["event"] == name]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--config.optimizer.learning_rat=1"], ["learning_rat", "did you mean optimizer.learning_rate?"]),
        (["--config.train.global_batch_size=-4"], ["train.global_batch_size=-4 is too small: the least is 1"]),
        (["--config.train.num_steps=many"], ["train.num_steps: 'many' is not an int"]),
        (["--config.train.num_steps"], ["--config.train.num_steps has no value"]),
        (["--workdirr=x"], ["unknown argument --workdirr=x", "did you mean --workdir?"]),
        (["extra"], ["unknown argument extra"]),
        (["--config.parallel.num_processes=2"], ["parallel.num_processes=2", "need parallel.coordinator=HOST:PORT"]),
        (["--config.parallel.coordinator=here"], ["is not HOST:PORT", "set parallel.num_processes"]),
        (["--config.parallel.coordinator=a:1"], ["parallel.coordinator=a:1 is for several processes"]),
        (
            [
                "--config.parallel.coordinator=a:1",
                "--config.parallel.num_processes=2",
                "--config.parallel.process_index=2",
            ],
            ["parallel.process_index=2 is not below parallel.num_processes=2"],
        ),
        (
            ["--config.parallel.coordinator=auto", "--config.parallel.process_index=1"],
            ["parallel.coordinator=auto asks the cluster"],
        ),
        (["--config=nowhere.py"], ["config file nowhere.py does not exist"]),
        (["--config=configs"], ["config file configs does not exist"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_usage_error_names_what_is_wrong(
    args: list[str], expected: list[str], usage: Callable[[list[str]], str]
) -> None:
    message = usage(args)
    assert [part for part in expected if part not in message] == []


def test_several_mistakes_are_all_listed(usage: Callable[[list[str]], str]) -> None:
    message = usage(
        [
            "--config.model.nme=x",
            "--config.model.context_length=4",
            "--config.train.num_steps=0",
            "--config.model.dropout=2",
        ]
    )
    assert "5 mistakes" in message and "is longer than model.context_length=4" in message
    for part in ("did you mean model.name?", "train.num_steps=0 is too small", "model.dropout=2.0 is too large"):
        assert part in message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise KeyError('gone')", "KeyError: 'gone'"),
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "get_config"),
        ("def get_config(): return None", "returned a NoneType, not the ConfigDict"),
        (
            "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'run': 3})",
            "missing key run.seed",
        ),
    ],
    ids=["raises", "no-python", "no-function", "returns-none", "other-keys"],
)
def test_config_file_that_is_wrong_is_named(
    source: str, expected: str, usage: Callable[[list[str]], str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source)
    message = usage([f"--config={path}", "--config.train.num_steps=3"])
    assert expected in message
    assert str(path) in message or "missing key" in message


def test_unknown_size_lists_the_sizes(usage: Callable[[list[str]], str]) -> None:
    gpt2 = Path(__file__).resolve().parents[2] / "configs" / "gpt2.py"
    message = usage([f"--config={gpt2}:huge"])
    assert "no size 'huge'" in message and "tiny, 124m" in message


def test_batch_that_does_not_divide_over_the_devices_is_refused(refused: Refused) -> None:
    message = refused(2, {"train.microbatch_size": 0}, EIGHT_DEVICES)
    assert "train.global_batch_size=4 does not divide over the 8 devices" in message
    assert "multiple of 8" in message


def test_fused_attention_without_its_gpu_is_refused(refused: Refused) -> None:
    message = refused(2, {"model.attention": "cudnn"}, {"JAX_PLATFORMS": "cpu"})
    assert "model.attention=cudnn" in message and "here are cpu devices" in message and "xla, or to auto" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data.paths": "nowhere/*.txt"}, "no file matches nowhere/*.txt"),
        pytest.param({"data.paths": "empty.txt"}, "empty.txt is empty", marks=pytest.mark.slow),
        pytest.param(
            {"tokenizer.path": "nowhere.json"}, "tokenizer.path=nowhere.json does not exist", marks=pytest.mark.slow
        ),
        ({"data.validation_fraction": 1e-9}, "data.validation_fraction=1e-09 holds out none of"),
    ],
    ids=["path", "empty", "tokenizer", "validation"],
)
def test_asset_that_is_missing_is_named(
    changes: dict[str, Any], expected: str, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    assert expected in refused(3, changes)
    assert not (tmp_path / "run").exists()  # a start that was refused leaves no directory


@pytest.mark.slow
def test_store_in_the_directory_of_the_run_is_refused(refused: Refused, tmp_path: Path) -> None:
    message = refused(3, {"data.mode": "store", "data.store": tmp_path / "run"})
    assert "run is not empty and no store; name another directory in data.store" in message


def test_debug_shows_the_traceback_and_changes_nothing_else(run_main: Any, corpus: Path, tmp_path: Path) -> None:
    done = run_main([*small_run.arguments(corpus, tmp_path / "run", {"data.paths": "nowhere"}), "--debug"])
    assert done.returncode == 3 and done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith("codex_jax: nowhere does not exist")


def test_signal_in_the_first_moments_is_answered(main_env: dict[str, str], corpus: Path, tmp_path: Path) -> None:
    program = "import sys, codex_jax.main; print(sorted({'jax', 'ml_collections', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], env=main_env, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[]\n"  # nothing slow is imported before the signals are caught


def test_variable_that_points_nowhere_is_named_before_the_data_are_looked_at(refused: Refused) -> None:
    env = {"CODEX_TINYLLAMA_TOKENIZER_PATH": "/nowhere/at/all"}
    message = refused(3, {"tokenizer.name": "tinyllama", "data.paths": "gone/*.txt"}, env)
    assert "CODEX_TINYLLAMA_TOKENIZER_PATH=/nowhere/at/all does not exist" in message and "gone" not in message


def test_vocabulary_larger_than_the_model_is_refused(refused: Refused) -> None:
    message = refused(2, {"model.vocab_size": 300})
    assert "the tokenizer has 320 tokens, but model.vocab_size=300" in message


def test_weights_in_place_of_a_workdir_are_told_apart_from_a_damaged_one(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')
    said = refused(3, {})
    assert "run is no run: its config.json describes a model, of family 'llama'" in said
    assert "--config.model.weights" in said and "damaged" not in said


def test_damaged_config_of_a_workdir_without_checkpoint_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"run_id": ')
    assert "config.json is damaged" in refused(3, {})
    assert (tmp_path / "run" / "config.json").read_text() == '{"run_id": '


@pytest.mark.slow
def test_workdir_that_is_a_file_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("notes")
    assert f"{tmp_path}/run is a file, not a directory" in refused(3, {})


def test_devices_that_are_not_there_are_named(refused: Refused) -> None:
    message = refused(2, {}, env={"JAX_PLATFORMS": "cuda"})
    assert "jax finds no devices of cuda" in message


def test_run_whose_checkpoints_are_gone_is_not_forgotten(run_main: Any, corpus: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    short = {"train.num_steps": 2, "eval.every_steps": 2}
    assert run_main(small_run.arguments(corpus, workdir, short)).returncode == 0
    files = ("config.json", "metrics.ndjson", "events.ndjson", "report.html")
    before = {name: (workdir / name).read_bytes() for name in files}
    shutil.rmtree(workdir / "checkpoints")
    other = short | {"optimizer.learning_rate": 1e-3}
    assert "saved at step 2" in message_of(run_main(small_run.arguments(corpus, workdir, other)), 3)
    assert {name: (workdir / name).read_bytes() for name in before} == before


@pytest.mark.slow
def test_run_goes_on_without_the_history_that_was_moved_away(run_main: Any, corpus: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    args = small_run.arguments(corpus, workdir, {"train.num_steps": 2, "eval.every_steps": 2})
    assert run_main(args).returncode == 0
    (workdir / "metrics.ndjson").unlink()
    again = run_main(args)
    assert again.returncode == 0, again.stderr
    assert "peak memory" in again.stdout and "training loss" not in again.stdout


def test_few_broken_rows_are_put_aside_and_named(run_main: Any, tmp_path: Path) -> None:
    rows, workdir = tmp_path / "rows.jsonl", tmp_path / "run"
    small_run.write_rows(rows, broken=4, whole=396)
    changes = {
        "data.max_quarantined": 0.02,
        "train.num_steps": 2,
        "eval.every_steps": 2,
        "data.window_bytes": 1_000_000,
    }
    done = run_main(small_run.arguments(rows, workdir, changes))
    assert done.returncode == 0, done.stderr
    found = {row["line"]: row for row in events(workdir, "data.quarantined")}
    offset = 0
    for line, content in enumerate(rows.read_bytes().splitlines()[:4], 1):
        assert (found[line]["file"], found[line]["offset"]) == (str(rows), offset)
        offset += len(content) + 1
    reasons = [found[line]["reason"] for line in sorted(found)]
    for part, reason in zip(("not JSON", "is not UTF-8", "has no field 'text'", "but a list"), reasons, strict=True):
        assert part in reason
    written = b"".join(path.read_bytes() for path in workdir.rglob("*") if path.is_file())
    assert b"privateword" not in written and "privateword" not in done.stdout + done.stderr


def test_many_broken_rows_stop_the_run(refused: Refused, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    small_run.write_rows(rows, broken=60, whole=1200)
    message = refused(4, {"data.paths": rows, "data.window_bytes": 1_000_000})
    assert "more than data.max_quarantined=0.01" in message and "rows.jsonl:1 (byte 0): not JSON" in message
    assert "privateword" not in message
    found = [row for row in events(tmp_path / "run", "data.quarantined") if row["split"] == "train"]
    assert sorted(row["line"] for row in found) == list(range(1, 61)) and {row["step"] for row in found} == {1}
    (counts,) = events(tmp_path / "run", "data.report")
    assert (counts["read"], counts["quarantined"]) == (1260, 60)


def test_what_was_read_for_validation_is_written_down(run_main: Any, tmp_path: Path) -> None:
    rows, workdir = small_run.write_corpus(tmp_path / "texts"), tmp_path / "run"
    validation = tmp_path / "validation.jsonl"
    small_run.write_rows(validation, broken=1, whole=150)
    with open(validation, "a") as file:
        file.write('{"text": "write to someone@example.org"}\n{"text": ""}\n')
    changes = {"data.validation_paths": validation, "train.num_steps": 2, "eval.num_batches": 999}
    assert run_main(small_run.arguments(rows, workdir, changes)).returncode == 0
    (counts,) = events(workdir, "data.validation")
    assert [counts[name] for name in ("read", "trained", "filtered", "quarantined")] == [153, 151, 1, 1]
    assert counts["safety"] == {"redact/email": 1}
    for name in ("data.quarantined", "safety.redacted"):
        (row,) = [row for row in events(workdir, name) if row["split"] == "validation"]
        assert row["file"] == str(validation)


def test_validation_file_of_broken_rows_is_refused(refused: Refused, tmp_path: Path) -> None:
    small_run.write_rows(tmp_path / "validation.jsonl", broken=5, whole=5)
    message = refused(4, {"data.validation_paths": tmp_path / "validation.jsonl"})
    assert "5 of 10 documents (50.0%) could not be read" in message


@pytest.mark.parametrize(("limit", "code"), [(0.5, 0), (0.01, 4)])
def test_file_that_is_not_utf8_is_put_aside_up_to_the_limit(
    limit: float, code: int, run_main: Any, tmp_path: Path
) -> None:
    directory, workdir = small_run.write_corpus(tmp_path / "texts"), tmp_path / "run"
    (directory / "latin.txt").write_bytes("privatewörd ".encode("latin-1") * 30)
    changes = {
        "data.max_quarantined": limit,
        "train.num_steps": 2,
        "eval.every_steps": 2,
        "data.window_bytes": 1_000_000,
    }
    done = run_main(small_run.arguments(directory, workdir, changes))
    if code:
        assert "latin.txt:1 (byte 8): byte 0xf6 is not UTF-8" in message_of(done, code)
    else:
        assert done.returncode == 0, done.stderr
        assert {row["file"] for row in events(workdir, "data.quarantined")} == {str(directory / "latin.txt")}


def test_loss_that_is_not_finite_stops_the_run_and_keeps_its_checkpoint(refused: Refused, tmp_path: Path) -> None:
    rates = {"optimizer.learning_rate": 1e30, "optimizer.final_learning_rate": 1e20, "optimizer.warmup_steps": 0}
    message = refused(4, {**rates, "optimizer.clip_norm": 0, "checkpoint.every_steps": 1})
    assert "step 2 was not applied: its loss is nan" in message and "in another --workdir" in message
    assert events(tmp_path / "run", "run.finished")[-1]["status"] == "stopped"
    assert (tmp_path / "run" / "report.html").exists()
    last = [row for row in ledger.read(tmp_path / "run" / ledger.METRICS) if row["split"] == "train"][-1]
    assert last["step"] == 2 and last["metrics"]["loss"] is None and "loss" in last["non_finite"]
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["1"]
    manifest.verify(tmp_path / "run" / "checkpoints" / "1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 16 MB; only root can mount one."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", directory], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"this user cannot mount a tmpfs: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", directory], check=True)


def test_disk_that_is_full_from_the_beginning_is_named(small_disk: Path, corpus: Path, run_main: Any) -> None:
    (small_disk / "ballast").write_bytes(bytes(free_bytes(small_disk)))
    message = message_of(run_main(small_run.arguments(corpus, small_disk / "run", {})), 4)
    assert "no room to save: a checkpoint of this model needs 453" in message and "0 bytes are free for" in message


@pytest.mark.slow
def test_disk_that_is_read_only_is_named(small_disk: Path, corpus: Path, run_main: Any) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    message = message_of(run_main(small_run.arguments(corpus, small_disk / "run", {})), 3)
    assert f"{small_disk}/run cannot be written (Read-only file system)" in message


def free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def test_full_disk_stops_the_run_which_goes_on_when_there_is_room(
    small_disk: Path, corpus: Path, run_main: Any
) -> None:
    workdir, ballast = small_disk / "run", small_disk / "ballast"
    ballast.write_bytes(
        bytes(free_bytes(small_disk) - 930_000)
    )  # room for two checkpoints of 0.45 MB, and nothing else
    args = small_run.arguments(corpus, workdir, {})
    done = run_main(args)
    warning, message = done.stderr.splitlines()
    assert done.returncode == 4 and warning.startswith("codex_jax: the disk will be full: a checkpoint of this model")
    assert "could not be saved: No space left on device" in message and "run the same command again" in message
    assert os.listdir(workdir / "checkpoints") == ["4"]
    manifest.verify(workdir / "checkpoints" / "4")
    assert [row["step"] for row in ledger.read(workdir / ledger.METRICS) if row["split"] == "train"][:4] == [1, 2, 3, 4]
    ballast.unlink()
    done = run_main(args)
    assert done.returncode == 0, done.stderr
    assert events(workdir, "run.resumed")[0]["from_step"] == 4
    steps = [row["step"] for row in ledger.read(workdir / ledger.METRICS) if row["split"] == "train"]
    assert steps == list(range(1, 17))
    manifest.verify(workdir / "checkpoints" / "16")


def test_block_that_ends_a_run_is_an_event_before_its_end(refused: Refused, tmp_path: Path) -> None:
    """Later than what a tokenizer would be trained on, and than the first checkpoint."""
    rules, late = tmp_path / "policy.yaml", tmp_path / "texts"
    rules.write_text("version: 1\nrules:\n  - {id: deny, literals: [forbidden], action: block}\n")
    late.mkdir()
    rows = [f"{' '.join(small_run.WORDS.split())} {number}" for number in range(60)]
    (late / "train.txt").write_text("\n".join([*rows, "what is forbidden"]) + "\n")
    (late / "held_out.txt").write_text("\n".join(rows[:20]) + "\n")
    changes = {
        "data.paths": late / "train.txt",
        "data.validation_paths": late / "held_out.txt",
        "data.duplicates": "keep",
        "data.document": "line",
        "data.window_bytes": 1024,
        "tokenizer.kind": "byte",
        "safety.policy": rules,
        "safety.on_block": "stop",
        "data.seed": 4,
        "train.num_steps": 100000,
    }
    said = refused(4, changes)
    assert "blocked by deny; take the document out" in said
    rows_of = {row["event"]: row for row in ledger.read(tmp_path / "run" / ledger.EVENTS)}
    assert rows_of["run.finished"]["reason"] in said
    blocked, report = rows_of["safety.blocked"], rows_of["data.report"]
    assert blocked["step"] == report["step"] == rows_of["run.finished"]["step"] + 1 > 4 and report["blocked"] == 1
    kept = {"split", "rule", "action", "stage", "file", "offset", "start", "end", "document", "line", "hash"}
    assert kept <= blocked.keys() and blocked["hash"] and "forbidden" not in str(blocked)
    saved = [row["step"] for row in events(tmp_path / "run", ledger.SAVED)]
    refused(4, changes)  # goes on from the last checkpoint, to the same end
    assert saved and len(events(tmp_path / "run", "safety.blocked")) == 1
