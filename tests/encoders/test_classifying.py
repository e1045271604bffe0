"""Classes of texts: as likely as transformers has them, whatever stands beside a text; and what the command prints."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import pytest

from codex_jax import config, sharding
from codex_jax.cli import app
from codex_jax.encoders import classifying
from codex_jax.errors import CodexError, ConfigError
from codex_jax.models import build
from codex_jax.safety import gate
from codex_jax.tokenizers import training


pytestmark = pytest.mark.model

LABELS = ("cat", "dog", "mat")
LINE = "the cat sat on a mat and then it ran home because rain fell over green hills near our old mill"
WORDS = LINE.split()
TEXTS = [" ".join(WORDS[at % 7 : at % 7 + 1 + at % 13]) + f" {at}" for at in range(40)] + [" ".join(WORDS * 9)]


@pytest.fixture(scope="module")
def write(torch_oracle: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a tiny model as transformers does, with a tokenizer trained here."""
    import transformers

    def written(kind: str, **changes: Any) -> Path:
        directory = tmp_path_factory.mktemp("model")
        training.train(TEXTS, 99, kind="wordpiece").save(directory)
        torch_oracle.manual_seed(0)
        sizes = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
        shape = transformers.BertConfig(
            vocab_size=99, max_position_embeddings=64, initializer_range=0.3, **sizes, **changes
        )
        getattr(transformers, kind)(shape).save_pretrained(directory)
        return directory

    return written


@pytest.fixture(scope="module")
def small(write: Callable[..., Path]) -> Path:
    return write("BertForSequenceClassification", id2label=dict(enumerate(LABELS)))


def test_probabilities_equal_transformers(torch_oracle: ModuleType, small: Path) -> None:
    import transformers

    pipe = transformers.pipeline("text-classification", str(small), top_k=None, truncation=True, max_length=64)
    found = classifying.load(small)(TEXTS)
    assert [list(one) for one in found] == [list(LABELS)] * len(TEXTS)
    assert len({classifying.likeliest(one) for one in found}) > 1
    for one, other in zip(found, pipe(TEXTS), strict=True):
        assert one == pytest.approx({answer["label"]: answer["score"] for answer in other}, abs=2e-4)


def test_a_class_does_not_depend_on_batch_or_order(small: Path) -> None:
    classify = classifying.load(small)
    found = classify(TEXTS)
    for one, other in zip(found, classify(TEXTS[::-1], batch_size=3)[::-1], strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert sum(found[0].values()) == pytest.approx(1.0, abs=1e-5)
    assert classify([]) == []


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("BertModel", {}, "ends in pooled, and has no head for classes"),
        ("BertForSequenceClassification", {"num_labels": 1}, "two classes at least"),
        ("BertForSequenceClassification", {"problem_type": "multi_label_classification"}, "multi_label_classification"),
    ],
)
def test_what_tells_no_classes_apart_is_refused(
    write: Callable[..., Path], kind: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(CodexError, match=said):
        classifying.load(write(kind, **changes))


def test_a_run_shows_the_class_of_its_prompt(small: Path) -> None:
    read = classifying.load(small)._read
    base = config.Config()
    settings = dataclasses.replace(
        base,
        model=config.Model(weights=str(small), context_length=64, compute_dtype="float32"),
        data=dataclasses.replace(base.data, objective="classes", labels=LABELS),
    )
    mesh, tokenizer = sharding.make_mesh(config.Parallel()), read._tokenizer

    def say(prompt: str, opening: tuple[int, ...] = ()) -> str:
        asked = gate.of(settings.safety).examine(prompt, "prompt")
        make = classifying.make(settings, build.define(settings.model), mesh, tokenizer, asked, opening)
        return make(jax.device_get(read._parameters), jax.random.key(0), lambda: None)  # a run has them on all devices

    for text in ("the cat sat", TEXTS[-1]):
        (found,) = classifying.load(small)([text])
        best = classifying.likeliest(found)
        assert say(text) == f"{best} ({100 * found[best]:.0f}%): {text}"
    ids = tokenizer.encode(["the cat sat"])[0].tolist()
    assert say("", (tokenizer.bos_id or 0, *ids)) == say("the cat sat")
    blocked = gate.of(settings.safety).examine("a text", "prompt")._replace(blocked=("rule",))
    with pytest.raises(ConfigError, match=r"generate\.prompt is blocked"):
        classifying.make(settings, build.define(settings.model), mesh, tokenizer, blocked, ())


def test_command_prints_the_likeliest_class_or_all(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_jax.console.prepare", lambda: None)
    (tmp_path / "lines.txt").write_text("the cat sat\n\nwrite to somebody@example.org\n")
    given = [str(small), "--text", "our old mill", "--lines", str(tmp_path / "lines.txt")]
    expected = classifying.load(small)(["our old mill", "the cat sat", "write to [REDACTED:email]"])
    assert app.main(["classify", *given]) == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    best = [classifying.likeliest(one) for one in expected]
    assert [line[0] for line in lines] == best
    likely = [one[name] for one, name in zip(expected, best, strict=True)]
    assert [float(line[1]) for line in lines] == pytest.approx(likely, abs=1e-4)
    assert lines[2][2] == "write to [REDACTED:email]"
    assert app.main(["classify", *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == list(LABELS)
    assert [row["label"] for row in found["texts"]] == best
    for row, one in zip(found["texts"], expected, strict=True):
        assert row["probabilities"] == pytest.approx(one, abs=1e-5)
    assert app.main(["classify", str(small)]) == 2
    assert "no text" in capsys.readouterr().err
