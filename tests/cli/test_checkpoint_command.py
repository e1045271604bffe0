"""`codex-jax checkpoint`: list, verify, prune and diff, on directories of a run."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bare
import checkpoint_examples as examples
import jax
import jax.numpy as jnp
import pytest

from codex_jax import config, rundir
from codex_jax.checkpoint import layout, manifest, retention, saving, store
from codex_jax.checkpoint.retention import Rules
from codex_jax.tracking.ledger import SAVED, Ledger


if TYPE_CHECKING:
    from conftest import Command

pytestmark = pytest.mark.infra

LOSSES = {100: 2.5, 200: 1.5, 300: 1.25, 400: 1.75, 500: 2.0}


def make_run(run: Path, losses: Mapping[int, float | None], **checkpoint: Any) -> Path:
    """Make what a run leaves: settings, ledger, and checkpoints evaluated with those losses."""
    run.mkdir()
    settings = config.to_dict(config.Config())
    settings["checkpoint"] |= checkpoint
    rundir.begin(run, "r1", settings, {})
    writer = Ledger(run, run_id="r1", resume_step=0)
    for step, loss in losses.items():
        made = bare.put(run / "checkpoints", step, {"why": "steps", "evaluation": {"loss": loss, "accuracy": 0.5}})
        listed = manifest.read(made)
        writer.event(SAVED, step, {"digest": listed.root, "bytes": listed.num_bytes})
    writer.close()
    return run


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in root.rglob("*")
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", LOSSES, keep_last=2, keep_best=1, keep_every=500)


def test_list_says_when_and_why_in_80_columns(run: Path, command: "Command") -> None:
    shutil.copytree(run / "checkpoints" / "100", run / "checkpoints" / "100.damaged")
    (run / "checkpoints" / "600.saving").mkdir()
    done = command("checkpoint", "list", "run")
    assert done.code == 0
    head, *rows, beside = done.out.splitlines()
    assert head.split() == ["STEP", "SAVED", "SIZE", "WHY", "LOSS", "KEPT"]
    assert [row.split()[0] for row in rows] == ["500", "400", "300", "200", "100"]
    assert rows[0].endswith("2     newest, last 2, every 500") and rows[2].endswith("1.25  best 1")
    assert rows[3].endswith("not: goes at the next save") and " steps " in rows[3] and " bytes " in rows[3]
    assert beside == "beside them: 100.damaged, 600.saving"


def test_list_as_json_is_what_the_page_says(run: Path, command: "Command") -> None:
    facts = json.loads(command("checkpoint", "list", "run", "--json").out)
    assert sorted(facts) == ["beside", "checkpoints", "run"]
    newest = facts["checkpoints"][0]
    listed = manifest.read(run / "checkpoints" / "500")
    assert newest.pop("time") > 1.7e9
    assert newest == {
        "step": 500,
        "bytes": listed.num_bytes,
        "why": "steps",
        "evaluation": {"loss": 2.0, "accuracy": 0.5},
        "state": None,
        "wrong": None,
        "kept": "newest, last 2, every 500",
    }


def test_list_reads_every_byte_only_when_it_is_asked_to(run: Path, command: "Command") -> None:
    bare.flip(run / "checkpoints" / "300" / "state" / "values")
    assert "best 1" in command("checkpoint", "list", "run").out
    out = command("checkpoint", "list", "run", "--verify").out
    assert "damaged: state/values: SHA-256" in out and "whole; newest" in out
    rows = json.loads(command("checkpoint", "list", "run", "--verify", "--json").out)["checkpoints"]
    assert [row["state"] for row in rows] == ["whole", "whole", "damaged", "whole", "whole"]
    assert [row["kept"] for row in rows][2:] == [None, "best 1", None]  # the second best takes its place
    bare.flip(run / "checkpoints" / "400" / "meta.json")
    assert "damaged: meta.json: SHA-256" in command("checkpoint", "list", "run").out


def test_list_of_an_older_run_without_the_newer_settings(run: Path, command: "Command") -> None:
    written = json.loads((run / "config.json").read_text())
    written["settings"]["checkpoint"] = {"every_steps": 100, "keep_last": 3}
    (run / "config.json").write_text(json.dumps(written))
    bare.put(run / "checkpoints", 600, {"run_id": "r1"})  # and without why and evaluation
    rows = json.loads(command("checkpoint", "list", "run", "--json").out)["checkpoints"]
    assert [row["kept"] for row in rows] == ["newest, last 3", "last 3", "last 3", None, None, None]
    assert (rows[0]["why"], rows[0]["time"]) == (None, None)
    assert command("checkpoint", "list", "run").code == 0


def test_checkpoints_that_are_gone_are_an_error(run: Path, command: "Command") -> None:
    shutil.rmtree(run / "checkpoints")
    for verb in ("list", "verify", "prune"):
        done = command("checkpoint", verb, "run")
        assert done.code == 3 and "was saved at step 500, but its checkpoints are gone" in done.err
    (run / "events.ndjson").unlink()
    assert "has no checkpoint yet" in command("checkpoint", "list", "run").out
    assert command("checkpoint", "verify", "run").code == 3
    for verb in ("list", "verify", "prune"):
        assert command("checkpoint", verb, "nowhere").code == 3


@pytest.mark.parametrize("kept", ["three", -1, None])
def test_settings_that_are_damaged_delete_nothing(run: Path, command: "Command", kept: Any) -> None:
    written = json.loads((run / "config.json").read_text())
    written["settings"]["checkpoint"]["keep_last"] = kept
    (run / "config.json").write_text(json.dumps(written))
    done = command("checkpoint", "prune", "run")
    assert done.code == 3 and "checkpoint.keep_last" in done.err
    assert len(layout.steps(run / "checkpoints")) == 5


def test_verify_passes_where_all_is_whole(run: Path, command: "Command") -> None:
    """A-CKP-13."""
    done = command("checkpoint", "verify", "run")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        [str(step), "whole,"] for step in sorted(LOSSES)[::-1]
    ]
    bare.put(run / "checkpoints", 1000, {})
    assert {line.index("whole,") for line in command("checkpoint", "verify", "run").out.splitlines()} == {6}
    (row,) = json.loads(command("checkpoint", "verify", "run/checkpoints/1000", "--json").out)["checkpoints"]
    assert row["path"] == "run/checkpoints/1000"
    assert command("checkpoint", "verify", "run", 300).out.startswith("300  whole, 3 files, ")
    assert command("checkpoint", "verify", "run/checkpoints/300").out.startswith("300  whole, 3 files, ")


def test_verify_names_each_file_that_is_wrong(run: Path, command: "Command") -> None:
    """A-CKP-2."""
    for name in ("meta.json", "state/values", "data/iterator.json"):
        bare.flip(run / "checkpoints" / "300" / name)
    (run / "checkpoints" / "100" / "state" / "values").unlink()
    (run / "checkpoints" / "100" / "extra").write_text("")
    done = command("checkpoint", "verify", "run")
    assert done.code == 3
    assert done.err == "codex_jax: 2 of 5 checkpoints of run damaged: 300, 100\n"
    for line in (
        "300  damaged: data/iterator.json: SHA-256 differs",
        "300  damaged: meta.json: SHA-256 differs",
        "300  damaged: state/values: SHA-256 differs",
        "100  damaged: state/values: missing",
        "100  damaged: 'extra': extra file, not in the manifest",
    ):
        assert line in done.out
    told = json.loads(command("checkpoint", "verify", "run", "--json").out)
    assert told["ok"] is False
    assert [row["ok"] for row in told["checkpoints"]] == [True, True, False, True, False]
    assert len(told["checkpoints"][2]["wrong"]) == 3
    assert command("checkpoint", "verify", "run", 200).code == 0
    assert command("checkpoint", "verify", "run/checkpoints/300").code == 3


@pytest.mark.parametrize("change", ["flip", "overwrite", "truncate", "delete", "swap"])
def test_verify_finds_each_kind_of_damage_in_every_file(run: Path, command: "Command", change: str) -> None:
    """A-CKP-1 and A-CKP-2: what load refuses, verify names."""
    directory = run / "checkpoints" / "500"
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    for path, other in zip(files, files[1:] + files[:1], strict=True):
        before = path.read_bytes()
        swapped = other.read_bytes()
        if change == "delete":
            path.unlink()
        else:
            after = {
                "flip": before[:-1] + bytes([before[-1] ^ 1]),
                "overwrite": b"corrupted",
                "truncate": before[:-1],
                "swap": swapped,
            }[change]
            path.write_bytes(after)
        done = command("checkpoint", "verify", "run", 500)
        assert done.code == 3 and str(path.relative_to(directory)) in done.out, (path, done)
        found = store.find_newest(run / "checkpoints")
        assert found and found.step == 400 and found.skipped  # offered, and not in silence
        path.write_bytes(before)
    assert command("checkpoint", "verify", "run", 500).code == 0


def test_verify_of_what_is_not_there(run: Path, command: "Command") -> None:
    done = command("checkpoint", "verify", "run", 250)
    assert done.code == 3 and "no checkpoint of step 250; those it has: 500, 400, 300" in done.err
    assert command("checkpoint", "verify", "run/checkpoints/300", 300).code == 2
    done = command("checkpoint", "verify", "run/checkpoints/250")
    assert done.code == 3 and "there is no run/checkpoints/250: name the directory of a run" in done.err
    (run / "checkpoints" / "300").rename(run / "three")
    done = command("checkpoint", "verify", "run/three")
    assert done.code == 3 and "run/three is neither the directory of a run nor a checkpoint" in done.err
    assert "its name is no step" in done.err


@pytest.mark.parametrize("verb", ["list", "verify"])
def test_checkpoint_that_a_trainer_deletes_meanwhile_is_not_damaged(
    run: Path, command: "Command", verb: str, tmp_path: Path
) -> None:
    waiting = True

    def delete(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal waiting
        if waiting and event == "open" and str(arguments[0]).endswith("checkpoints/500/manifest.json"):
            waiting = False
            (run / "checkpoints" / "100").rename(tmp_path / "deleted")

    sys.addaudithook(delete)
    done = command("checkpoint", verb, "run", "--json")
    assert (waiting, done.code) == (False, 0)
    assert [row["step"] for row in json.loads(done.out)["checkpoints"]] == [500, 400, 300, 200]


def test_verify_of_copies(run: Path, command: "Command", tmp_path: Path) -> None:
    """B15 and A-CKP-13: cp -r, and tar."""
    subprocess.run(["cp", "-r", run / "checkpoints" / "300", tmp_path / "300"], check=True)
    with tarfile.open(tmp_path / "run.tar", "w") as tar:
        tar.add(run, "elsewhere")
    shutil.rmtree(run)
    with tarfile.open(tmp_path / "run.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    assert command("checkpoint", "verify", "300").code == 0
    assert command("checkpoint", "verify", "elsewhere").code == 0
    found = store.find_newest(tmp_path / "elsewhere" / "checkpoints")
    assert found and found.data_state == {"next": 500}
    (tmp_path / "300").rename(tmp_path / "301")
    done = command("checkpoint", "verify", "301")
    assert done.code == 3 and "is of step 300; the directory was renamed" in " ".join(done.out.split())


def test_prune_deletes_what_the_settings_do_not_keep(run: Path, command: "Command") -> None:
    going = sum(manifest.read(run / "checkpoints" / str(step)).num_bytes for step in (100, 200))
    (run / "checkpoints" / "50.deleting").mkdir()
    (run / "checkpoints" / "50.deleting" / "values").write_bytes(b"0" * 100)
    before = tree(run)
    dry = json.loads(command("checkpoint", "prune", "run", "--dry-run", "--json").out)
    assert tree(run) == before  # A-CKP-4
    assert [row["step"] for row in dry["goes"]] == [100, 200]
    assert dry["bytes"] == going + 100 and dry["leftovers"] == ["50.deleting"]
    text = command("checkpoint", "prune", "run", "--dry-run").out
    assert "would delete 2 checkpoints and 50.deleting: " in text and tree(run) == before
    done = command("checkpoint", "prune", "run")
    assert done.code == 0
    assert "deleted 2 checkpoints and 50.deleting: " in done.out
    assert [line.split()[0] for line in done.out.splitlines()[1:-1]] == ["500", "400", "300", "200", "100"]
    assert sorted(os.listdir(run / "checkpoints")) == ["300", "400", "500"]
    assert json.loads(command("checkpoint", "prune", "run", "--json").out)["goes"] == []


def test_prune_by_what_is_given(run: Path, command: "Command") -> None:
    rules = ("--keep-last", 1, "--keep-every", 200, "--keep-best", 0)
    told = json.loads(command("checkpoint", "prune", "run", "--json", *rules).out)
    assert told["rules"] == {
        "keep_last": 1,
        "keep_every": 200,
        "keep_best": 0,
        "best_metric": "loss",
        "best_mode": "min",
    }
    assert sorted(layout.steps(run / "checkpoints")) == [200, 400, 500]


def test_prune_by_a_figure_nobody_has_deletes_nothing(run: Path, command: "Command") -> None:
    done = command("checkpoint", "prune", "run", "--keep-best", 2, "--metric", "perplexity")
    assert done.code == 2 and "no checkpoint of run has an evaluation with perplexity" in done.err
    done = command("checkpoint", "prune", "run", "--metric", "accuracy", "--mode", "min")
    assert done.code == 2 and "would keep the worst" in done.err and "--mode" in done.err
    assert len(layout.steps(run / "checkpoints")) == 5
    told = json.loads(command("checkpoint", "prune", "run", "--metric", "accuracy", "--json").out)
    assert told["rules"]["best_mode"] == "max"


def test_prune_keeps_and_names_the_damaged(run: Path, command: "Command") -> None:
    bare.flip(run / "checkpoints" / "100" / "state" / "values")
    done = command("checkpoint", "prune", "run")
    assert "100: state/values: SHA-256 differs; it is kept for you to look at" in done.err
    assert sorted(layout.steps(run / "checkpoints")) == [100, 300, 400, 500]


def test_prune_is_refused_while_a_trainer_has_the_run(run: Path, command: "Command") -> None:
    holder = "import sys, pathlib, codex_jax.rundir as rundir\n"
    holder += "with rundir.claim(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        done = command("checkpoint", "prune", "run")
        assert done.code == 2 and f"process {process.pid} is training in run" in done.err
        assert len(layout.steps(run / "checkpoints")) == 5
        process.communicate("\n")
    assert command("checkpoint", "prune", "run").code == 0


def save_state(run: Path, step: int, change: Mapping[str, Any] | None = None, **meta: Any) -> None:
    """Save an example state, with some of its parameters replaced, under the settings of a run."""
    state = examples.make(7, examples.mesh(1))
    state.params.update(change or {})
    noted = {"run_id": run.name, "settings": {"optimizer": {"learning_rate": 0.1}}, "totals": {"tokens": 5}, **meta}
    position = noted.pop("position", {"order": {"next": 7}})
    with saving.Checkpointer(run / "checkpoints", Rules(9), lambda *_: None) as saver:
        saver.save(step, state, position, noted)


def test_diff_of_equal_checkpoints(tmp_path: Path, command: "Command") -> None:
    """Who saved them, when, why and with which harmless settings is no difference."""
    save_state(tmp_path / "a", 7, why="steps", digests={"config": "1", "data": "2"})
    save_state(
        tmp_path / "b",
        7,
        why="end",
        digests={"config": "2"},
        settings={"optimizer": {"learning_rate": 0.1}, "eval": {"num_batches": 3}},
    )
    save_state(tmp_path / "b", 8)
    done = command("checkpoint", "diff", "a", "b")
    assert done.code == 0 and "equal: 16 leaves" in done.out
    done = command("checkpoint", "diff", "a/checkpoints/7", "b")
    assert done.code == 0 and done.out.splitlines()[:2] == ["A  a/checkpoints/7", "B  b/checkpoints/7"]
    assert command("checkpoint", "diff", "a/checkpoints/7", "b/checkpoints/8").code == 0
    assert command("checkpoint", "diff", "b", 7, 8).code == 0
    told = json.loads(command("checkpoint", "diff", "a", "b", "--json").out)
    assert told == {
        "a": "a/checkpoints/7",
        "b": "b/checkpoints/7",
        "equal": True,
        "num_leaves": 16,
        "not_finite": {"a": {}, "b": {}},
        "leaves": [],
        "position": [],
        "settings": [],
        "noted": [],
    }


def test_diff_names_the_first_leaf_and_counts_the_others(tmp_path: Path, command: "Command") -> None:
    save_state(tmp_path / "a", 7)
    kernel = examples.make(7, examples.mesh(1)).params["blocks"]["kernel"]
    gap = abs(float(kernel[1, 3, 5]) - 1.5)
    changed = {
        "blocks": {"kernel": kernel.at[1, 3, 5].set(1.5).at[0, 0, 0].add(0.125), "bias": jnp.arange(16.0) * 7},
        "mask": jnp.array([True, True]),
        "more": jnp.zeros((3,)),
        "empty": jnp.zeros((0, 4)),
    }
    save_state(tmp_path / "b", 7, changed)
    done = command("checkpoint", "diff", "a", "b")
    assert (done.code, done.err) == (1, "codex_jax: the checkpoints differ\n")
    assert f"params/blocks/kernel: 2 of 2,048 elements differ, by {gap:.6g} at most\n" in done.out
    assert "3 of the 16 other leaves differ\n" in done.out
    told = json.loads(command("checkpoint", "diff", "a", "b", "--json").out)
    assert [(row["name"], row["differ"], row["elements"], row["largest"]) for row in told["leaves"]] == [
        ("params/blocks/kernel", 2, 2048, pytest.approx(gap)),
        ("params/empty", None, None, None),
        ("params/mask", 1, 2, 1.0),
        ("params/more", None, None, None),
    ]
    assert told["leaves"][1]["reason"] == "float32[0, 3] in A, float32[0, 4] in B"
    assert told["leaves"][3]["reason"] == "no such leaf in A, float32[3] in B"


def test_diff_sees_bits_and_not_values(tmp_path: Path, command: "Command") -> None:
    for name, values in (("a", [0.0, 1.0]), ("b", [-0.0, 1.0])):
        save_state(tmp_path / name, 7, {"mask": jnp.array(values)})
    (row,) = json.loads(command("checkpoint", "diff", "a", "b", "--json").out)["leaves"]
    assert (row["differ"], row["largest"]) == (1, 0.0)


def test_diff_sees_keys_position_settings_and_counts(tmp_path: Path, command: "Command") -> None:
    save_state(tmp_path / "a", 7)
    other = {"settings": {"optimizer": {"learning_rate": 0.2}, "eval": {"num_batches": 1}}, "totals": {"tokens": 6}}
    save_state(tmp_path / "b", 7, position={"order": {"next": 8}}, **other)
    done = command("checkpoint", "diff", "a", "b")
    assert done.code == 1
    for line in (
        "all 16 leaves are equal",
        "data order.next: 7 in A, 8 in B",
        "setting optimizer.learning_rate: 0.1 in A, 0.2 in B",
        "noted totals.tokens: 5 in A, 6 in B",
    ):
        assert line in done.out.splitlines()
    assert "eval" not in done.out
    state = {"key": jax.random.key(1)}
    for name, key in (("c", 1), ("d", 2)):
        with saving.Checkpointer(tmp_path / name / "checkpoints", Rules(1), lambda *_: None) as saver:
            saver.save(1, state | {"key": jax.random.key(key)}, {}, {})
    assert "key: 1 of 2 elements differ" in command("checkpoint", "diff", "c", "d").out


def test_diff_refuses_what_is_damaged_or_not_there(tmp_path: Path, command: "Command") -> None:
    save_state(tmp_path / "a", 7)
    save_state(tmp_path / "b", 8)
    done = command("checkpoint", "diff", "a", "b")
    assert done.code == 3 and "no step has a checkpoint in both: a has 7, and b has 8" in done.err
    assert command("checkpoint", "diff", "a", 7, 9).code == 3
    assert command("checkpoint", "diff", "a", "seven", 7).code == 2
    assert command("checkpoint", "diff", "a").code == 2
    bare.flip(tmp_path / "b" / "checkpoints" / "8" / "meta.json")
    done = command("checkpoint", "diff", "a/checkpoints/7", "b/checkpoints/8")
    assert done.code == 3 and "meta.json: SHA-256 differs" in done.err


def test_list_and_prune_decide_as_training_does(run: Path, command: "Command") -> None:
    rows = json.loads(command("checkpoint", "list", "run", "--json").out)["checkpoints"]
    told = json.loads(command("checkpoint", "prune", "run", "--dry-run", "--json").out)
    made = retention.decide(run / "checkpoints", Rules(2, 500, 1), {})
    assert {row["step"]: row["kept"] for row in rows if row["kept"]} == made.stays
    assert {row["step"]: row["kept"] for row in told["stays"]} == made.stays
