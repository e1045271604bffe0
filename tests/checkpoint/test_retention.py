"""Which checkpoints stay: each rule alone, all together, and beside what is damaged or somebody else's."""

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bare
import pytest

from codex_jax import config
from codex_jax.checkpoint import layout, manifest, retention, store
from codex_jax.checkpoint.retention import Rules


pytestmark = pytest.mark.infra


def evaluated(loss: Any, **more: Any) -> dict[str, Any]:
    return {"evaluation": {"loss": loss}, **more}


def tree(root: Path) -> dict[str, int]:
    """Return every file and directory below a root, and when it was last changed."""
    return {str(path.relative_to(root)): path.lstat().st_mtime_ns for path in root.rglob("*")}


def kept(root: Path, rules: Rules) -> list[int]:
    """Apply the rules as a new process would, and return what is left, oldest first."""
    retention.apply(root, rules, {})
    return sorted(layout.steps(root))


def test_best_of_five_stay(root: Path) -> None:
    """A-CKP-3."""
    bare.put_losses(root, dict(zip(range(1, 6), (1.0, 0.9, 0.8, 0.7, 0.6), strict=True)))
    assert retention.apply(root, Rules(1, keep_best=3), {}).stays == {
        5: "newest, last 1, best 3",
        4: "best 3",
        3: "best 3",
    }
    assert sorted(layout.steps(root)) == [3, 4, 5]


def test_newest_stays_beside_the_best_though_it_is_the_worst(root: Path) -> None:
    """A-CKP-4."""
    bare.put_losses(root, {1: 0.3, 2: 0.2, 3: 0.4})
    assert kept(root, Rules(1, keep_best=2)) == [1, 2, 3]
    bare.put(root, 4, evaluated(9.0))
    made = retention.apply(root, Rules(1, keep_best=2), {})
    assert (made.goes, list(made.stays)) == ([3], [4, 2, 1])


def test_largest_stay_in_max_mode(root: Path) -> None:
    """A-CKP-4."""
    for step, accuracy in ((1, 0.9), (2, 0.5), (3, 0.1)):
        bare.put(root, step, {"evaluation": {"accuracy": accuracy, "loss": -accuracy}})
    rules = Rules(1, keep_best=2, best_metric="accuracy", best_mode="max")
    assert retention.plan({1: evaluated(0.1), 2: evaluated(0.5), 3: evaluated(0.9)}, Rules(1)) == {3: "newest, last 1"}
    assert kept(root, rules) == [1, 2, 3]
    bare.put(root, 4, {"evaluation": {"accuracy": 0.8}})
    assert kept(root, rules) == [1, 4]


def owing(root: Path, step: int) -> None:
    bare.put(root, step, {"evaluation": None, "owes_evaluation": True})


def evaluate_later(root: Path, step: int, loss: float) -> None:
    """Write down an evaluation as the run does that goes on."""
    row = {"step": step, "split": "validation", "metrics": {"loss": loss}}
    with (root.parent / "metrics.ndjson").open("a") as file:
        file.write(json.dumps({**row, "split": "train", "metrics": {"loss": 0.0}}) + "\n" + json.dumps(row) + "\n")


def test_evaluation_that_a_checkpoint_owed_counts_when_it_is_made(root: Path) -> None:
    bare.put_losses(root, {1: 0.5, 3: 0.6, 4: 0.7})
    owing(root, 2)
    rules, known = Rules(1, keep_best=1), dict[int, Any]()
    assert retention.decide(root, rules, {}).goes == [2, 3]
    assert retention.would_be_best(root, rules, 0.4)
    evaluate_later(root, 3, 0.1)  # not owed: what a checkpoint has noted itself counts
    evaluate_later(root, 2, 0.3)
    assert retention.decide(root, rules, known).goes == [1, 3]
    assert retention.decide(root, rules, known).stays == {4: "newest, last 1", 2: "best 1"}
    assert not retention.would_be_best(root, rules, 0.4)


def test_evaluation_that_is_made_while_the_process_knows_the_checkpoint_counts(root: Path) -> None:
    owing(root, 2)
    verified = {2: {"evaluation": None, "owes_evaluation": True}}
    bare.put_losses(root, {4: 0.7})
    assert retention.decide(root, Rules(1, keep_best=1), verified).goes == [2]
    evaluate_later(root, 2, 0.3)
    assert retention.decide(root, Rules(1, keep_best=1), verified).goes == []


def test_deciding_writes_nothing(root: Path) -> None:
    """A-CKP-4."""
    bare.put_losses(root, {1: 0.3, 2: 0.2, 3: 0.4})
    before = tree(root)
    assert retention.decide(root, Rules(1), {}).goes == [1, 2]
    assert tree(root) == before


def test_strange_files_neither_count_nor_go(root: Path, tmp_path: Path) -> None:
    """A-CKP-4: there is no index that could be damaged; A-CKP-5; A-CKP-8: a marker is nobody's."""
    bare.put_losses(root, {step: 1.0 for step in range(4)})
    for name in ("notes", "007", "1e3", "-1", "5"):
        (root / name).mkdir()
    (root / "latest").write_text("checkpoints/9")
    (root / "best.json").write_text("{")
    (root / "index.json").write_text("[")
    (root / "9").symlink_to(tmp_path)
    (tmp_path / "sibling").mkdir()
    others = set(os.listdir(root)) - {"0", "1", "2", "3"}
    assert kept(root, Rules(2)) == [2, 3, 5, 9]
    assert set(os.listdir(root)) == {"2", "3"} | others
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "sibling"]
    found = store.find_newest(root)
    assert found and found.step == 3


def test_empty_root_has_nothing_to_keep(root: Path) -> None:
    """A-CKP-8: no checkpoint at all is an answer, not an error."""
    assert store.find_newest(root) is None
    assert retention.decide(root, Rules(1), {}) == ({}, [], {})
    root.mkdir()
    assert store.find_newest(root) is None


def test_last_of_real_saves_stay(root: Path, save: Callable[..., list[int]]) -> None:
    """A-CKP-6; A-CKP-5."""
    assert save(2, 4, 6, 8, 10, keep_last=3) == [2, 4, 6, 8, 10]
    assert sorted(layout.steps(root)) == [6, 8, 10]


def test_steps_are_numbers_and_not_texts(root: Path) -> None:
    """A-CKP-6."""
    bare.put_losses(root, {step: 1.0 for step in (9, 10, 500, 1000)})
    assert kept(root, Rules(2)) == [500, 1000]
    assert kept(root, Rules(1)) == [1000]


def test_best_stays_beside_a_newer_one(root: Path) -> None:
    """A-CKP-7."""
    bare.put_losses(root, {1: 1.0, 2: 2.0})
    assert retention.apply(root, Rules(1, keep_best=1), {}).stays == {2: "newest, last 1", 1: "best 1"}
    assert sorted(layout.steps(root)) == [1, 2]


def test_what_is_not_finite_is_never_the_best(root: Path) -> None:
    """B13: losses 3, 2, NaN, 1, NaN, inf, 1.5, with what JSON can hold of them."""
    losses = (3.0, 2.0, None, 1.0, None, None, 1.5)
    for step, loss in enumerate(losses, 1):
        bare.put(root, step, evaluated(loss))
        assert max(layout.steps(root)) == step
        retention.apply(root, Rules(1, keep_best=2), {})
    assert sorted(layout.steps(root)) == [4, 7]


@pytest.mark.parametrize(
    "worthless",
    [
        {},
        {"evaluation": None},
        {"evaluation": [1.0]},
        {"evaluation": {}},
        *(
            {"evaluation": {"loss": value}}
            for value in (None, math.nan, -math.inf, True, "0", [0], 10**400, -(10**400))
        ),
    ],
    ids=repr,
)
def test_no_number_is_never_the_best(worthless: dict[str, Any]) -> None:
    """B13."""
    for mode in ("min", "max"):
        rules = Rules(1, keep_best=2, best_mode=mode)
        assert list(retention.plan({1: evaluated(5.0), 2: worthless, 3: worthless}, rules)) == [3, 1]


def test_whole_numbers_are_numbers() -> None:
    assert list(retention.plan({1: evaluated(1), 2: evaluated(2.5), 3: evaluated(3)}, Rules(1, keep_best=1))) == [3, 1]


def test_of_equals_the_newer_is_the_better() -> None:
    metas = {step: evaluated(1.0) for step in (1, 2, 10, 3)}
    for mode in ("min", "max"):
        assert list(retention.plan(metas, Rules(1, keep_best=2, best_mode=mode))) == [10, 3]


def test_multiples_stay_for_ever(root: Path) -> None:
    bare.put_losses(root, {step: 1.0 for step in (100, 150, 200, 250, 300, 310)})
    assert kept(root, Rules(1, keep_every=100)) == [100, 200, 300, 310]
    assert kept(root, Rules(1)) == [310]


def test_rolling_one_stays_only_while_it_is_the_newest(root: Path) -> None:
    bare.put_losses(root, {1: 1.0, 2: 1.0, 3: 1.0})
    bare.put(root, 4, {"why": "time"})
    assert retention.decide(root, Rules(2), {}).stays == {4: "newest", 3: "last 2", 2: "last 2"}
    assert kept(root, Rules(2)) == [2, 3, 4]
    bare.put(root, 5, {"why": "time"})
    assert kept(root, Rules(2)) == [2, 3, 5]
    bare.put(root, 6, {"why": "steps"})
    assert kept(root, Rules(2)) == [3, 6]


def test_rolling_one_that_another_rule_keeps_stays(root: Path) -> None:
    bare.put(root, 10, evaluated(0.5, why="time"))
    bare.put(root, 15, evaluated(0.1, why="time"))
    bare.put(root, 16, evaluated(0.9))
    assert kept(root, Rules(1, keep_every=10, keep_best=1)) == [10, 15, 16]


@pytest.mark.parametrize("name", ["state/values", "meta.json", "manifest.json", "data/iterator.json"])
def test_damaged_one_takes_no_place_and_stays(root: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    bare.put_losses(root, {1: 0.3, 2: 0.2, 3: 0.1, 4: 0.9, 5: 0.8})
    for step in (3, 5):  # the best, and the newest
        bare.flip(root / str(step) / name)
    made = retention.apply(root, Rules(1, keep_best=1), {})
    assert (made.stays, made.goes, sorted(made.damaged)) == ({4: "newest, last 1", 2: "best 1"}, [1], [3, 5])
    assert sorted(layout.steps(root)) == [2, 3, 4, 5]
    said = capfd.readouterr().err
    assert said.count("it is kept for you to look at") == 2
    assert f"{root}/3: {name}" in said and f"{root}/5: {name}" in said


def test_damaged_one_that_would_go_stays_and_is_named(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Damage in old ones, that no rule keeps, would else be deleted before anybody saw it."""
    bare.put_losses(root, {1: 1.0, 2: 1.0, 3: 1.0})
    bare.flip(root / "1" / "state" / "values")
    assert kept(root, Rules(1)) == [1, 3]
    assert f"{root}/1: state/values: SHA-256 differs; it is kept" in capfd.readouterr().err


def test_damage_is_met_by_a_trainer_that_goes_on_saving(
    root: Path, save: Callable[..., list[int]], capfd: pytest.CaptureFixture[str]
) -> None:
    save(1, 2, 3)
    bare.flip(root / "3" / "meta.json")
    assert save(4, keep_last=2) == [4]
    assert layout.steps(root) == [4, 3, 2]
    assert capfd.readouterr().err.count("3: meta.json: SHA-256 differs; it is kept") == 1


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": 1, "step": 2, "meta": 5}', "[" * 100_000])
def test_meta_that_is_none_is_damage(root: Path, text: str) -> None:
    """Even under a manifest that fits."""
    bare.put_losses(root, {1: 1.0, 2: 1.0, 3: 1.0})
    (root / "2" / "meta.json").write_text(text)
    (root / "2" / manifest.NAME).unlink()
    manifest.write(root / "2")
    assert list(retention.decide(root, Rules(3), {}).damaged) == [2]


def test_meta_behind_a_link_or_a_pipe_is_not_opened(root: Path, tmp_path: Path) -> None:
    bare.put_losses(root, {1: 1.0, 2: 1.0, 3: 1.0})
    (root / "1" / "meta.json").rename(tmp_path / "meta.json")
    (root / "1" / "meta.json").symlink_to(tmp_path / "meta.json")
    (root / "2" / "meta.json").unlink()
    os.mkfifo(root / "2" / "meta.json")  # to open it would hang
    assert sorted(retention.decide(root, Rules(3), {}).damaged) == [1, 2]


def test_meta_edited_without_its_manifest_decides_nothing(root: Path) -> None:
    """A checkpoint that claims to be the best, and is not as it was written, pushes no other out."""
    bare.put_losses(root, {1: 1.0, 2: 2.0, 3: 3.0})
    path = root / "2" / "meta.json"
    path.write_text(path.read_text().replace("2.0", "0.0"))
    assert retention.decide(root, Rules(1, keep_best=1), {}).stays == {3: "newest, last 1", 1: "best 1"}
    assert not retention.would_be_best(root, Rules(1, keep_best=1), 1.5)
    assert retention.would_be_best(root, Rules(1, keep_best=1), 0.5)


def test_order_is_by_step_whatever_the_clock_says(root: Path) -> None:
    """C9: the clock jumped back a day, or years, between saves."""
    bare.put_losses(root, {step: 1.0 for step in range(1, 7)})
    for step in range(1, 7):
        for path in (root / str(step), *(root / str(step)).rglob("*")):
            os.utime(path, (2e9 - 86400 * step, 2e9 - 86400 * step))
    found = store.find_newest(root)
    assert found and found.step == 6
    assert kept(root, Rules(2, keep_best=3)) == [4, 5, 6]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The values that are read while a test runs: those of arrays are large."""
    seen: list[str] = []
    real = manifest.digest.of_file

    def of_file(path: Path) -> str:
        seen.append(f"{path.parent.parent.name}/{path.name}")
        return real(path)

    monkeypatch.setattr(manifest.digest, "of_file", of_file)
    yield seen


def test_only_what_decides_is_read_whole(root: Path, opened: list[str]) -> None:
    """With many that stay for ever, a resume must not read all of them at its first save."""
    bare.put_losses(root, {step: float(step) for step in range(10, 60, 10)})
    bare.put_losses(root, {55: 0.0})
    opened.clear()
    verified: dict[int, retention.Meta] = {}
    made = retention.apply(root, Rules(1, keep_every=10, keep_best=1), verified)
    assert {name for name in opened if name.endswith("/values")} == {"55/values"}
    assert list(made.stays) == [55, 50, 40, 30, 20, 10]
    opened.clear()
    retention.apply(root, Rules(1, keep_every=10, keep_best=1), verified)
    assert [name for name in opened if name.endswith("/values")] == []


def test_would_be_best(root: Path) -> None:
    rules = Rules(1, keep_best=2)
    assert retention.would_be_best(root, rules, 5.0)  # the first of all
    bare.put_losses(root, {1: 1.0, 2: 2.0})
    bare.put(root, 3, evaluated(3.0))
    for value, expected in (
        (1.5, True),
        (2.0, True),
        (2.1, False),
        (None, False),
        (math.nan, False),
        (-math.inf, False),
    ):
        assert retention.would_be_best(root, rules, value) is expected, value
    largest = Rules(1, keep_best=2, best_mode="max")
    assert [retention.would_be_best(root, largest, value) for value in (1.9, 2.0, math.inf)] == [False, True, False]
    assert not retention.would_be_best(root, Rules(1), 0.0)
    assert sorted(layout.steps(root)) == [1, 2, 3]


def test_damaged_one_does_not_keep_another_from_being_best(root: Path) -> None:
    bare.put_losses(root, {1: 1.0, 2: 0.0})
    bare.flip(root / "2" / "meta.json")
    assert retention.would_be_best(root, Rules(1, keep_best=1), 0.5)


def test_rules_are_those_of_the_settings() -> None:
    settings = config.Checkpoint(keep_last=3, keep_every=200, keep_best=2, best_metric="accuracy", best_mode="max")
    assert retention.rules(settings) == Rules(3, 200, 2, "accuracy", "max")
    assert retention.rules(config.Checkpoint()) == Rules(2)


def test_what_is_kept_survives_as_json(root: Path) -> None:
    """The meta a checkpoint was given is what retention reads of it."""
    bare.put(root, 1, json.loads('{"why": "best", "evaluation": {"loss": 0.25, "perplexity": null}}'))
    verified: dict[int, retention.Meta] = {}
    retention.decide(root, Rules(1), verified)
    assert verified == {1: {"why": "best", "evaluation": {"loss": 0.25, "perplexity": None}}}
