"""Texts with a class: which one a row or a directory says, what a batch of them holds, and what is refused."""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from corpora import opened, read, resolve, text
from stores import digest

from codex_jax import config
from codex_jax.data import layout, mixture, pipeline, rows, split_files
from codex_jax.data.batch import Batch
from codex_jax.data.documents import BadRow, Document
from codex_jax.data.pipeline import Stream
from codex_jax.data.report import Report
from codex_jax.data.split_files import Wish
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety import gate
from codex_jax.tokenizers import training


pytestmark = pytest.mark.data

LABELS = ("ham", "spam", "both")
CLASSES: Mapping[str, Any] = {"data__objective": "classes", "data__labels": LABELS}
DATA = resolve(**CLASSES).data
TOKENIZER = training.train([text(number) for number in range(50)] + [*LABELS], 120, kind="wordpiece")


def label_of(number: int) -> str:
    return LABELS[number * 7 % 5 % 3]


def write_rows(path: Path, count: int = 60, field: str = "label") -> Path:
    """Rows of which each other text is of one word, or of more than a row can hold."""
    made = [{"text": text(number, 1 + number % 9 * 3), field: label_of(number)} for number in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def settings_of(*paths: Path, **changes: Any) -> config.Config:
    return resolve(data__paths=tuple(map(str, paths)), **{**CLASSES, **changes})


def open_stream(settings: config.Config, batch_size: int = 8, shard: tuple[int, int] = (0, 1)) -> Stream:
    return pipeline.train_stream(settings, opened(settings), TOKENIZER, batch_size, shard)


def shown(batch: Batch) -> list[tuple[str, str]]:
    """The class and the text of each row, as the tokenizer reads it."""
    return [
        (LABELS[targets_L[0]], TOKENIZER.decode(tokens_L[segments_L > 0].tolist()[1:-1]))
        for tokens_L, targets_L, segments_L in zip(batch.tokens_BL, batch.targets_BL, batch.segments_BL, strict=True)
    ]


def real(batch: Batch) -> list[tuple[str, str]]:
    """Those rows that are no padding."""
    return [row for row, weight in zip(shown(batch), batch.weights_BL[:, 0], strict=True) if weight]


@pytest.mark.parametrize(
    ("labels", "value", "number"),
    [
        (LABELS, "spam", 1),
        (LABELS, 2, 2),
        (("5", "1", "-1"), 1, 1),
        (("5", "1", "-1"), "-1", 2),
        (("1", "0"), 0, 1),
    ],
)
def test_a_label_is_a_name_or_a_number(labels: tuple[str, ...], value: Any, number: int) -> None:
    data = resolve(**{**CLASSES, "data__labels": labels}).data
    made = rows.to_document({"text": "a text", "label": value}, 3, data)
    assert isinstance(made, Document) and made.label == number
    assert (made.parts[0].text, made.content, made.offset) == ("a text", b"a text", 3)


@pytest.mark.parametrize(
    ("labels", "row", "said"),
    [
        (LABELS, {"label": "ham"}, "has no field 'text'"),
        (LABELS, {"text": "a"}, "has no field 'label'"),
        (LABELS, {"text": 3, "label": "ham"}, "field 'text' is not a string but a number"),
        (LABELS, {"text": "a", "label": "Ham"}, "field 'label' is none of data.labels=ham,spam,both"),
        (LABELS, {"text": "a", "label": 3}, "field 'label' is none of data.labels=ham,spam,both"),
        (LABELS, {"text": "a", "label": -1}, "field 'label' is none of"),
        (LABELS, {"text": "a", "label": None}, "field 'label' is not a label but null"),
        (LABELS, {"text": "a", "label": True}, "field 'label' is"),
        (LABELS, {"text": "a", "label": 1.0}, "field 'label' is not a label but a number"),
        (LABELS, {"text": "a", "label": ["ham"]}, "field 'label' is not a label but a list"),
        (("5", "7"), {"text": "a", "label": 0}, "field 'label' is none of data.labels=5,7"),
        (tuple("abcdefghij"), {"text": "a", "label": "x"}, "data.labels=a,b,c,d,e,f,g,h and 2 more"),
    ],
)
def test_a_row_of_no_class_is_a_bad_one(labels: tuple[str, ...], row: dict[str, Any], said: str) -> None:
    made = rows.to_document(row, 0, resolve(**{**CLASSES, "data__labels": labels}).data)
    assert isinstance(made, BadRow) and said in made.reason


def test_a_row_of_no_class_is_put_aside_and_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", 9)
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write('{"text": "a text", "label": "privateword"}\n')
    found, report = read(tmp_path / "a.jsonl", **CLASSES)
    assert len(found) == 9 and report.quarantined == 1
    assert "privateword" not in str(report.rows[0])
    assert str(report.rows[0]).startswith(f"{tmp_path}/a.jsonl:10 ")


def test_a_row_of_the_batch_is_one_text_in_its_frame_and_its_class(tmp_path: Path) -> None:
    stream = open_stream(settings_of(write_rows(tmp_path / "a.jsonl")))
    seen: dict[str, str] = {}
    for _ in range(20):
        batch = next(stream)
        lengths_B = batch.segments_BL.sum(axis=1)
        for row, length in enumerate(lengths_B):
            assert batch.tokens_BL[row, 0] == TOKENIZER.bos_id
            assert batch.tokens_BL[row, length - 1] == TOKENIZER.eos_id
            assert (batch.segments_BL[row] == (np.arange(16) < length)).all()
        assert (batch.positions_BL == np.arange(16)).all()
        assert (batch.weights_BL == (np.arange(16) == 0)).all() and not batch.targets_BL[:, 1:].any()
        seen |= {words: label for label, words in shown(batch)}
    stream.close()
    assert batch.tokens_BL.shape == (8, 16)
    expected = {}
    for number in range(60):
        ids = TOKENIZER.encode([text(number, 1 + number % 9 * 3)])[0][:14].tolist()  # of 16 two are the frame
        expected[TOKENIZER.decode(ids)] = label_of(number)
    assert set(seen.items()) < set(expected.items()) and 45 < len(seen) < 60  # some are held out


def test_columns_of_a_table_are_rows_too(tmp_path: Path) -> None:
    table = {"more": [1] * 30, "kind": [number % 3 for number in range(30)], "text": [text(n) for n in range(30)]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    stream = open_stream(settings_of(tmp_path / "a.parquet", data__label_field="kind", data__validation_fraction=0.3))
    seen = {words: label for _ in range(9) for label, words in shown(next(stream))}
    stream.close()
    numbers = {int(words.split()[1]): label for words, label in seen.items()}
    assert len(numbers) > 9 and all(LABELS[number % 3] == label for number, label in numbers.items())


def write_directories(root: Path, names: tuple[str, ...] = LABELS) -> Path:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for part in range(3):
            lines = "".join(text(number * 90 + part * 30 + at) + "\n" for at in range(30))
            (root / name / f"part{part}.txt").write_text(lines)
    return root


def test_a_text_file_is_of_the_class_of_its_directory(tmp_path: Path) -> None:
    stream = open_stream(settings_of(write_directories(tmp_path / "texts"), data__document="line"))
    seen = {words: label for _ in range(40) for label, words in shown(next(stream))}
    stream.close()
    numbers = {int(words.split()[1]): label for words, label in seen.items()}
    assert len(numbers) > 150 and all(LABELS[number // 90] == label for number, label in numbers.items())


def test_a_directory_that_is_no_class_is_put_aside(tmp_path: Path) -> None:
    _, report = read(write_directories(tmp_path / "texts", ("ham", "eggs")), **CLASSES)
    assert report.quarantined == report.read / 2
    assert {row.reason for row in report.rows} == {"the name of its directory is none of data.labels=ham,spam,both"}


def test_a_store_has_the_same_rows(tmp_path: Path) -> None:
    paths = write_rows(tmp_path / "a.jsonl")
    stored = settings_of(paths, data__mode="store", data__store=str(tmp_path / "store"))
    sources = opened(stored)
    (made,) = pipeline.make_stores(stored, sources, TOKENIZER)
    found = []
    for settings, one in ((stored, [made]), (settings_of(paths), [])):
        stream = pipeline.train_stream(settings, sources, TOKENIZER, made.report("train").trained, made=one)
        found.append(sorted(shown(next(stream))))
        stream.close()
        held_out, _ = pipeline.validation_batches(settings, sources, TOKENIZER, 8, made=one)
        found.append(sorted(row for batch in held_out for row in real(batch)))
    assert found[0] == found[2] and found[1] == found[3]
    assert len(found[0]) > 45 and found[1]


@pytest.mark.parametrize("mode", ["stream", "store"])
def test_a_stream_goes_on_where_it_stopped_and_knows_its_classes(tmp_path: Path, mode: str) -> None:
    paths = write_rows(tmp_path / "a.jsonl")

    def settings(name: str, **changes: Any) -> config.Config:
        store = {"data__mode": "store", "data__store": str(tmp_path / name)} if mode == "store" else {}
        made = settings_of(paths, **store, **changes)
        pipeline.make_stores(made, opened(made), TOKENIZER)
        return made

    stream = open_stream(settings("one"))
    found = [(digest(next(stream)), json.loads(json.dumps(stream.state()))) for _ in range(12)]
    stream.close()
    resumed = open_stream(settings("one"))
    resumed.restore(found[4][1])
    assert [digest(next(resumed)) for _ in range(7)] == [one for one, _ in found[5:]]
    resumed.close()
    other = open_stream(settings("other", data__labels=("spam", "ham", "both")))
    with pytest.raises(AssetError, match="labels"):
        other.restore(found[4][1])
    other.close()


def test_a_renamed_directory_is_another_corpus_and_a_moved_file_of_rows_is_not(tmp_path: Path) -> None:
    first = write_directories(tmp_path / "one")
    (tmp_path / "moved").mkdir()
    write_rows(tmp_path / "a.jsonl")
    write_rows(tmp_path / "moved" / "a.jsonl")
    (before,) = opened(settings_of(first / "ham"))
    (after,) = opened(settings_of((first / "ham").rename(first / "eggs")))
    assert before.corpus.fingerprint != after.corpus.fingerprint
    (here,), (there,) = (opened(settings_of(tmp_path / place)) for place in ("a.jsonl", "moved/a.jsonl"))
    assert here.corpus.fingerprint == there.corpus.fingerprint


def test_copies_stay_on_one_side_whatever_their_class(tmp_path: Path) -> None:
    lines = [{"text": text(number // 3), "label": LABELS[number % 3]} for number in range(90)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    settings = settings_of(tmp_path / "a.jsonl", data__validation_fraction=0.3)
    held_out, report = pipeline.validation_batches(settings, opened(settings), TOKENIZER, 8)
    texts = [row[1] for batch in held_out for row in real(batch)]
    assert report.trained == len(texts) == 3 * len(set(texts)) > 0


def test_texts_with_a_class_are_redacted_like_all(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "write to somebody@example.org about it", "label": "ham"}\n')
    settings = settings_of(tmp_path / "a.jsonl")
    (part,) = opened(settings)
    reader = mixture.reader(settings, (part, "all"), layout.contents)
    (pieces,) = reader.read(range(part.corpus.num_units), Report())
    assert "".join(piece.text for piece in pieces) == "write to [REDACTED:email] about it"
    assert [piece.label for piece in pieces if piece.label is not None] == [0]


def test_a_split_keeps_the_classes(tmp_path: Path) -> None:
    write_directories(tmp_path / "texts")
    settings = settings_of(tmp_path / "texts", data__document="line")
    reader = split_files.open_reader(settings, gate.of(settings.safety), "PATH")
    made = split_files.split(reader, Wish((Fraction(3, 4), Fraction(1, 4)), 0, False, "keep"), tmp_path / "out")
    assert made["settings"]["labels"] == list(LABELS)
    lines = (tmp_path / "out" / "train.jsonl").read_text().splitlines()
    numbers = {int(row["text"].split()[1].strip(":")): row["label"] for row in map(json.loads, lines)}
    assert len(numbers) > 190 and all(LABELS[number // 90] == label for number, label in numbers.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__labels": ()}, "nothing names the classes"),
        ({"data__prompt_field": "question"}, "read by data.prompt_field=question"),
        ({"data__objective": "causal", "data__labels": (), "data__label_field": "kind"}, "data.label_field=kind"),
    ],
)
def test_settings_that_no_row_is_read_by_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        opened(settings_of(write_rows(tmp_path / "a.jsonl"), **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__labels": ("a",)}, "2 to 65,536 different names"),
        ({"data__labels": ("a", "b", "a")}, "2 to 65,536 different names"),
        ({"data__objective": "causal"}, "are not read with data.objective=causal"),
        ({"data__packing": "first_fit"}, "gives each document a row of its own"),
        ({"data__isolate_documents": False}, "gives each document a row of its own"),
    ],
)
def test_settings_that_contradict_classes_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve(**{**CLASSES, **changes})
