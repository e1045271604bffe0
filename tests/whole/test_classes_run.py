"""A classifier is trained as by a user: it learns, goes on where it stopped, and goes out to transformers."""

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import small_run
import small_weights

from codex_jax.cli import app, opening
from codex_jax.encoders import classifying
from codex_jax.models import pretrained
from codex_jax.tokenizers import training


if TYPE_CHECKING:
    from conftest import RunMain

pytestmark = [pytest.mark.infra, pytest.mark.slow]

LABELS = ("animal", "plant", "stone")
WORDS = {"animal": "cat dog cow hen", "plant": "oak fir elm ivy", "stone": "jade opal flint slate"}
COMMON = "a an the is was on near under it old"
CHANGES = {
    "model.width": 32,
    "model.mlp_width": 64,
    "model.vocab_size": 320,
    "model.context_length": 32,
    "tokenizer.vocab_size": 320,
    "data.labels": ",".join(LABELS),
    "data.sequence_length": 16,
    "train.num_steps": 120,
    "train.global_batch_size": 16,
    "train.microbatch_size": 8,
    "train.log_every": 10,
    "checkpoint.every_steps": 60,
    "checkpoint.keep_last": 3,
    "eval.every_steps": 60,
    "eval.num_batches": 4,
    "optimizer.learning_rate": 0.003,
    "optimizer.warmup_steps": 10,
    "generate.prompt": "the old oak",
}


def write_rows(path: Path, count: int = 400) -> Path:
    """Texts of common words with one that says what they are about."""
    draw, made = random.Random(0), []
    for _ in range(count):
        label = draw.choice(LABELS)
        words = [*draw.choices(COMMON.split(), k=draw.randrange(3, 9)), draw.choice(WORDS[label].split())]
        draw.shuffle(words)
        made.append({"text": " ".join(words), "label": label})
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def arguments(rows: Path, workdir: Path, changes: Mapping[str, Any] = {}) -> list[str]:
    root = Path(__file__).resolve().parents[2]
    return [
        f"--config={root}/configs/minilm_classify.py:tiny",
        *small_run.arguments(rows, workdir, {**CHANGES, **changes})[1:],
    ]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="module")
def whole(rows: Path, main_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    said = small_run.finish(arguments(rows, workdir), main_env)
    assert "accuracy" in said and "perplexity" not in said
    return workdir


def test_accuracy_goes_up_and_samples_say_a_class(whole: Path) -> None:
    found = small_run.metric_rows(whole)
    held_out = [row["metrics"] for row in found if row["split"] == "validation"]
    baseline = next(row["metrics"]["unigram_entropy"] for row in found if row["split"] == "baseline")
    assert 0.9 < baseline < 1.1  # of three classes
    assert held_out[-1]["accuracy"] > 0.95 and held_out[-1]["loss"] < 0.3 * baseline
    assert held_out[-1].keys() == {"loss", "accuracy"}
    train = [row["metrics"] for row in found if row["split"] == "train"]
    assert train[0]["accuracy"] < 0.7 and np.mean([row["accuracy"] for row in train[-3:]]) > 0.9
    assert train[-1]["texts"] == 120 * 16
    samples = [event["text"] for event in small_run.replayed_events(whole) if event["event"] == "sample"]
    assert samples[-1].startswith("plant (") and samples[-1].endswith("%): the old oak")


def test_a_run_that_goes_on_equals_a_whole_one(
    rows: Path, whole: Path, main_env: dict[str, str], tmp_path: Path
) -> None:
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    shutil.rmtree(part / "checkpoints" / "120")
    assert "from step 60" in small_run.finish(arguments(rows, part), main_env)
    assert small_run.state_digest(part, 120) == small_run.state_digest(whole, 120)
    assert small_run.metric_rows(part) == small_run.metric_rows(whole)


def test_other_classes_are_another_run(rows: Path, whole: Path, run_main: "RunMain", tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    done = run_main(arguments(rows, part, {"data.labels": "plant,animal,stone"}))
    assert done.returncode != 0 and "data.labels" in done.stderr


def test_an_export_is_loaded_by_transformers_and_used_by_name(
    torch_oracle: ModuleType, rows: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    out = tmp_path / "out"
    assert app.main(["model", "export", str(whole), str(out)]) == 0
    texts = [json.loads(line)["text"] for line in rows.read_text().splitlines()[:40]]
    labels = [json.loads(line)["label"] for line in rows.read_text().splitlines()[:40]]
    theirs = transformers.pipeline("text-classification", str(out), top_k=None)(texts)
    ours = classifying.load(out)(texts)
    for of_run, of_export in zip(opening.classifier(whole, None, 0)(texts), ours, strict=True):
        assert of_run == pytest.approx(of_export, abs=2e-2)  # a run may multiply in bfloat16
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx({answer["label"]: answer["score"] for answer in other}, abs=2e-4)
    assert np.mean([classifying.likeliest(one) == label for one, label in zip(ours, labels, strict=True)]) > 0.95
    network = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    assert network.config.id2label == dict(enumerate(LABELS))
    assert network.config.label2id == {name: number for number, name in enumerate(LABELS)}
    capsys.readouterr()
    assert app.main(["evaluate", str(whole), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["texts"] == found["documents"] > 9 and found["accuracy"] > 0.9


@pytest.fixture(scope="module")
def base(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a BertModel, with a pooler and no head for classes, and their tokenizer."""
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    shape = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 320, "max_position_embeddings": 32}
    directory = small_weights.write(tmp_path_factory.mktemp("base") / "weights", changes=shape | sizes)
    lines = [json.loads(line)["text"] for line in rows.read_text().splitlines()]
    training.train(lines, 320, kind="wordpiece").save(directory)
    return directory


SHORT = {
    **{
        f"model.{size}": 0 for size in ("num_layers", "num_heads", "width", "mlp_width", "vocab_size", "context_length")
    },
    "model.name": "",
    "tokenizer.kind": "",
    "train.num_steps": 4,
    "generate.num_tokens": 4,
}


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({"adapter.rank": 2, "train.trainable": "lora_,classifier/"}, ("lora_", "classifier/")),
        ({"train.trainable": "classifier/,pooler/"}, ("classifier/", "pooler/")),
        ({"train.freeze_layers": 1}, ("",)),
    ],
    ids=str,
)
def test_a_new_head_is_trained_with_adapters_alone_or_with_some_layers(
    rows: Path, base: Path, main_env: dict[str, str], tmp_path: Path, changes: dict[str, Any], trained: tuple[str, ...]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    said = small_run.finish(arguments(rows, run, {**SHORT, "model.weights": base, **changes}), main_env)
    assert "at random values begin classifier/bias, classifier/kernel" in said
    kept = [name.removeprefix("parameters/") for name in small_run.arrays(run, 4) if name.startswith("parameters/")]
    assert all(any(part in name for part in trained) for name in kept) and "classifier/kernel" in kept
    found = opening.trained(run, None, [("parallel.data", "0")])
    assert np.abs(np.asarray(found.parameters["classifier"]["bias"])).min() > 0  # it began at zero
    stored = pretrained.leaves(found.model.definition)
    assert "classifier/kernel" in stored
    assert app.main(["model", "merge" if "adapter.rank" in changes else "export", str(run), str(out)]) == 0
    assert classifying.load(out).labels == LABELS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter.rank": 2}, "which would stay at random values: name them in train.trainable"),
        ({"train.trainable": "pooler/"}, "classifier/bias, classifier/kernel, which would stay at random values"),
        ({"model.ending": "pooled"}, "with model.ending=classes it gets a head"),
    ],
)
def test_a_head_that_would_stay_at_random_is_refused(
    rows: Path, base: Path, run_main: "RunMain", tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    done = run_main(arguments(rows, tmp_path / "run", {**SHORT, "model.weights": base, **changes}))
    assert done.returncode == 2 and said in done.stderr, done.stderr
