"""The classes of a model: what its config.json calls them, and whether that is what the settings say."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch_models

from codex_jax import config
from codex_jax.errors import AssetError, CodexError, ConfigError
from codex_jax.models import build, classes
from codex_jax.models.published import Published


pytestmark = pytest.mark.model

BERT = {"model_type": "bert", **torch_models.CONFIGS["bert"][1]}
NAMED = {"architectures": ["BertForSequenceClassification"], "id2label": {"1": "spam", "0": "ham"}}


def decided(published: dict[str, Any], labels: tuple[str, ...] = (), **model: Any) -> config.Config:
    base = config.Config()
    return build.decided(
        dataclasses.replace(
            base,
            model=dataclasses.replace(base.model, architecture=json.dumps(BERT | published), **model),
            data=dataclasses.replace(base.data, objective="classes", labels=labels, sequence_length=64),
            generate=dataclasses.replace(base.generate, num_tokens=8),
        )
    )


def test_names_are_in_the_order_of_their_numbers() -> None:
    many = {str(number): f"class {number}" for number in range(12)}
    assert classes.names(Published({"id2label": many}, "x")) == tuple(many.values())
    assert classes.names(Published({}, "x")) == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("found", [{"0": "a", "2": "b"}, {}, ["a", "b"], {"0": "a", "1": 7}])
def test_names_without_their_numbers_are_refused(found: Any) -> None:
    with pytest.raises(AssetError, match="id2label"):
        classes.names(Published({"id2label": found}, "x"))


def test_labels_make_the_head_and_are_written_down() -> None:
    made = decided({}, ("ham", "spam", "both"), ending="classes")
    shape = build.define(made.model).shape
    assert (shape.ending, shape.num_labels) == ("classes", 3)
    published = json.loads(made.model.architecture)
    assert published["id2label"] == {"0": "ham", "1": "spam", "2": "both"}
    assert published["label2id"] == {"ham": 0, "spam": 1, "both": 2}


def test_names_of_the_model_are_taken_where_none_are_given() -> None:
    assert decided(NAMED).data.labels == ("ham", "spam")
    assert decided(NAMED, ("ham", "spam")).data.labels == ("ham", "spam")
    unnamed = {"architectures": NAMED["architectures"]}
    assert decided(unnamed, ("ham", "spam")).data.labels == ("ham", "spam")
    assert decided(unnamed).data.labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("published", "labels", "model", "said"),
    [
        ({}, (), {"ending": "classes"}, "nothing names the classes"),
        (
            NAMED,
            ("ham", "spam", "both"),
            {},
            r"names 3 classes \(ham, spam, both\), and model.architecture 2 \(ham, spam\)",
        ),
        (NAMED, ("spam", "ham"), {}, r"names 2 classes \(spam, ham\), and model.architecture 2 \(ham, spam\)"),
        ({}, ("ham", "spam"), {}, "with model.ending=classes it gets a head for classes"),
        ({**NAMED, "id2label": {"0": "score"}}, (), {}, "of two classes at least"),
        ({**NAMED, "problem_type": "multi_label_classification"}, (), {}, "problem_type='multi_label_classification'"),
    ],
)
def test_classes_that_are_not_those_of_the_model_are_refused(
    published: dict[str, Any], labels: tuple[str, ...], model: dict[str, Any], said: str
) -> None:
    with pytest.raises(CodexError, match=said):
        decided(published, labels, **model)


def test_a_model_that_reads_forwards_has_no_classes(tmp_path: Path) -> None:
    base = config.Config()
    data = dataclasses.replace(base.data, objective="classes", labels=("a", "b"))
    with pytest.raises(ConfigError, match="family gpt2 is trained by data"):
        build.decided(dataclasses.replace(base, data=data))
