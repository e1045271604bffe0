"""Rows to documents: roles, identity, and what is learnt of an instruction."""

import json
from pathlib import Path

import numpy as np
import pytest
from corpora import TOKENIZER, opened, resolve

from codex_jax.data import pipeline, rows
from codex_jax.data.batch import Batch
from codex_jax.data.documents import BadRow, Document, Part
from codex_jax.data.report import Report


pytestmark = pytest.mark.data

DATA = resolve().data


def document(row: dict[str, object]) -> Document:
    made = rows.to_document(row, 0, DATA)
    assert isinstance(made, Document)
    return made


def test_text_is_its_own_identity() -> None:
    made = document({"text": "é", "other": 3})
    assert (made.parts, made.content) == ((Part("é", "text"),), "é".encode())


def test_borders_of_parts_are_part_of_the_identity() -> None:
    pairs = [{"prompt": "ab", "completion": "c"}, {"prompt": "a", "completion": "bc"}, {"text": "abc"}]
    digests = {document(pair).digest for pair in pairs}
    chats = [[("user", "ab"), ("assistant", "c")], [("system", "ab"), ("assistant", "c")]]
    digests |= {document({"messages": [{"role": r, "content": c} for r, c in chat]}).digest for chat in chats}
    assert len(digests) == 5


SECRET = "privateword"
USER = {"role": "user", "content": SECRET}
BAD_ROWS = [
    ({"prompt": SECRET}, "has no field 'text'"),
    ({"prompt": SECRET, "completion": 3}, "field 'completion' is not a string but a number"),
    ({"prompt": None, "completion": SECRET}, "field 'prompt' is not a string but null"),
    ({"prompt": "\ud800", "completion": SECRET}, "field 'prompt' holds half of a surrogate pair"),
    ({"messages": SECRET}, "'messages' is not a list of messages but a string"),
    ({"prompt": SECRET, "completion": True}, "field 'completion' is not a string but true or false"),
    ({"prompt": SECRET, "completion": 0.5}, "field 'completion' is not a string but a number"),
    ({"prompt": SECRET, "completion": SECRET.encode()}, "field 'completion' is not a string but of type bytes"),
    ({"messages": []}, "'messages' is not a list of messages but empty"),
    ({"messages": [USER, SECRET]}, "message 2 of field 'messages' is not an object but a string"),
    ({"messages": [{"role": SECRET, "content": "a"}]}, "has a role that is none of system, user, assistant, tool"),
    ({"messages": [{"role": ["user"], "content": SECRET}]}, "has a role that is none of"),
    ({"messages": [{"role": "user", "content": {"a": SECRET}}]}, "is not a string but an object"),
    ({"messages": [{"content": SECRET}]}, "has not just role and content, but 1 field"),
    ({"messages": [{**USER, "tool_calls": [SECRET]}]}, "has not just role and content, but 3 fields"),
    ({"messages": [{**USER, "content": "\udc00" + SECRET}]}, "holds half of a surrogate pair"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_bad_row_has_a_reason_that_does_not_quote_it(row: dict[str, object], reason: str) -> None:
    made = rows.to_document(row, 7, DATA)
    assert isinstance(made, BadRow) and made.offset == 7
    assert reason in made.reason and SECRET not in made.reason


def test_null_fields_of_a_message_are_none() -> None:
    assert len(document({"messages": [{**USER, "tool_calls": None}], "text": "x"}).parts) == 1


def write(path: Path, content: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def first(path: Path, **changes: object) -> tuple[Batch, Report]:
    settings = resolve(data__paths=(str(path),), data__sequence_length=64, data__validation_fraction=0.01, **changes)
    stream = pipeline.train_stream(settings, opened(settings), TOKENIZER, 1)
    batch, total = next(stream), Report()
    for report in stream.take_reports():
        total.add(report)
    stream.close()
    return batch, total


def parted(batch: Batch) -> tuple[str, str]:
    """What is learnt, and what is only read."""
    learnt = batch.weights_BL > 0
    return tuple(TOKENIZER.decode(batch.targets_BL[mask].tolist()) for mask in (learnt, ~learnt))  # type: ignore


def test_only_the_answer_of_an_instruction_is_learnt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "a lazy dog?", "answer": "the fox"}])
    batch, report = first(path, data__prompt_field="question", data__completion_field="answer")
    learnt, read = parted(batch)
    assert learnt == "the fox<|endoftext|>"
    assert (TOKENIZER.decode([int(batch.tokens_BL[0, 0])]) + read).startswith("a lazy dog?\n")
    assert report.bytes == len("a lazy dog?the fox")


def test_secret_in_an_answer_is_not_learnt_and_an_empty_answer_is_filtered(tmp_path: Path) -> None:
    rows_ = [
        {"prompt": "who?", "completion": "the fox someone@example.org jumps"},
        {"prompt": "the dog", "completion": " "},
    ]
    batch, report = first(write(tmp_path / "a.jsonl", rows_))
    assert parted(batch)[0] == "the fox  jumps<|endoftext|>"
    assert (report.trained, report.filtered, report.safety["redact/email"]) == (1, 1, 1)
    (finding,) = report.findings
    assert rows_[0]["prompt"] + rows_[0]["completion"][: finding.start - 4] == "who?the fox "


def test_separator_belongs_to_the_instruction(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "a dog", "completion": "the fox"}])
    batch, _ = first(path, data__prompt_separator=" => ")
    assert parted(batch)[0] == "the fox<|endoftext|>"
    assert "dog => " in TOKENIZER.decode(batch.tokens_BL[0].tolist())


def test_tokenizer_learns_from_questions_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "qqqqzzzz" * 20, "completion": f"a {n}"} for n in range(30)])
    settings = resolve(data__paths=(str(path),))
    made = pipeline.make_tokenizer(settings, opened(settings))
    assert made.encode(["qqqqzzzz" * 20])[0].size < 30


def test_fingerprint_names_the_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}])
    prints = []
    for changes in ({}, {"data__prompt_field": "x"}, {"data__prompt_separator": "-"}):
        settings = resolve(data__paths=(str(path),), **changes)
        stream = pipeline.train_stream(settings, opened(settings), TOKENIZER, 1)
        prints.append(json.dumps(stream.fingerprint, sort_keys=True))
        stream.close()
    assert len(set(prints)) == 3
    assert np.all([("data.prompt_field" in text) for text in prints])
