"""`data split`: exact counts or shares that move nothing, copies together, whole or not there, and fit to train on."""

import collections
import json
import os
import resource
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import opened, resolve
from hypothesis import given
from hypothesis import strategies as st

from codex_jax.cli import app
from codex_jax.data import allotment, layout, mixture, split_manifest
from codex_jax.data.report import Report
from codex_jax.errors import ConfigError


pytestmark = pytest.mark.data

SPLITS = ("train", "validation", "test")


def write(path: Path, texts: Iterable[Any]) -> Path:
    rows = [text if isinstance(text, dict) else {"text": text} for text in texts]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def numbered(count: int) -> list[str]:
    return [f"text number {number}" for number in range(count)]


def split(*args: object) -> int:
    return app.main(["data", "split", *map(str, args)])


def contents(out: Path) -> dict[str, list[Any]]:
    """The rows of each file that is there."""
    files = [out / f"{name}.jsonl" for name in SPLITS]
    return {
        path.stem: [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] for path in files if path.exists()
    }


def texts(out: Path) -> dict[str, list[str]]:
    return {name: [row["text"] for row in found] for name, found in contents(out).items()}


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_same_seed_writes_the_same_bytes_and_another_seed_another_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write(tmp_path / "rows.jsonl", numbered(30))
    for out, args in {"a": ["--seed=1"], "b": ["--seed=1"], "c": ["--seed=2"]}.items():
        assert split(rows, "--out", tmp_path / out, *args) == 0
    assert {name: len(found) for name, found in texts(tmp_path / "a").items()} == {
        "train": 24,
        "validation": 3,
        "test": 3,
    }
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert texts(tmp_path / "a") != texts(tmp_path / "c")
    monkeypatch.setenv("CODEX_DATA_SEED", "2")
    assert split(rows, "--out", tmp_path / "d") == 0
    assert files(tmp_path / "d") == files(tmp_path / "c")


def test_ten_at_half_are_five_and_five(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", numbered(10))
    assert split(rows, "--out", tmp_path / "out", "--fractions=0.5,0.5") == 0
    assert {name: len(found) for name, found in texts(tmp_path / "out").items()} == {"train": 5, "validation": 5}


@given(st.integers(0, 500), st.lists(st.integers(1, 50), min_size=2, max_size=3))
def test_counts_are_whole_and_off_by_less_than_one(number: int, parts: list[int]) -> None:
    shares = [Fraction(part, sum(parts)) for part in parts]
    found = allotment.counts(number, shares)
    assert sum(found) == number
    assert all(abs(count - number * share) < 1 for count, share in zip(found, shares, strict=True))


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [
        ("0.8,0.1", "adds up to 0.9, not 1"),
        ("0.6,0.6,-0.2", "has a part that is not above 0"),
        ("0.8,0.2,0", "has a part that is not above 0"),
        ("0.8,0.2,0.2", "adds up to 1.2, not 1"),
        ("1", "has 1 part:"),
        ("0.4,0.3,0.2,0.1", "has 4 parts"),
        ("most,some", "is not a list of numbers"),
        ("1/0,1", "is not a list of numbers"),
    ],
)
def test_fractions_that_are_none_end_with_2(
    fractions: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path / "rows.jsonl", numbered(30))
    assert split(rows, "--out", tmp_path / "out", f"--fractions={fractions}") == 2
    assert expected in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["rows.jsonl"]


@pytest.mark.parametrize("method", [[], ["--stable", "--seed=1"]])
def test_split_that_would_be_empty_ends_with_2(
    method: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path / "rows.jsonl", numbered(3))
    assert split(rows, "--out", tmp_path / "out", *method) == 2
    assert "of 3 different documents the fractions 0.8, 0.1, 0.1 leave none for" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["rows.jsonl"]


@pytest.mark.parametrize("method", [[], ["--stable"]])
def test_union_is_the_input_with_its_copies_and_no_content_is_on_two_sides(
    method: Sequence[str], tmp_path: Path
) -> None:
    given = [*numbered(200), *numbered(60), "one\u2028record", "two\x85halves", "a\\b \\n c"]
    rows = write(tmp_path / "rows.jsonl", given)
    assert split(rows, "--out", tmp_path / "out", *method) == 0
    found = texts(tmp_path / "out")
    assert collections.Counter(text for name in SPLITS for text in found[name]) == collections.Counter(given)
    assert sum(len(set(found[name])) for name in SPLITS) == len(set(given))
    facts = split_manifest.read(tmp_path / "out")
    assert facts["counts"]["copies"] == 60 and facts["counts"]["written"] == 263
    for name in SPLITS:
        of_file = facts["files"][f"{name}.jsonl"]
        assert (of_file["rows"], of_file["different"]) == (len(found[name]), len(set(found[name])))
    if not method:
        assert [facts["files"][f"{name}.jsonl"]["different"] for name in SPLITS] == [163, 20, 20]


def test_another_record_moves_no_other_where_the_split_is_stable(tmp_path: Path) -> None:
    for out, count in {"a": 300, "b": 301}.items():
        rows = write(tmp_path / f"{out}.jsonl", numbered(count))
        assert split(rows, "--out", tmp_path / out, "--stable", "--seed=5") == 0
    before, after = texts(tmp_path / "a"), texts(tmp_path / "b")
    assert all(len(before[name]) > 15 for name in SPLITS)
    moved = [name for name in SPLITS if before[name] != after[name]]
    assert len(moved) == 1 and after[moved[0]] == [*before[moved[0]], "text number 300"]


def test_copies_are_dropped_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", [*numbered(30), *numbered(12)])
    assert split(rows, "--out", tmp_path / "out", "--duplicates=drop") == 0
    assert {name: len(found) for name, found in texts(tmp_path / "out").items()} == {
        "train": 24,
        "validation": 3,
        "test": 3,
    }
    counts = split_manifest.read(tmp_path / "out")["counts"]
    assert (counts["read"], counts["written"], counts["copies"], counts["dropped"]) == (42, 30, 12, 12)
    capsys.readouterr()
    assert split(rows, "--out", tmp_path / "other", "--duplicates=fail") == 3
    said = capsys.readouterr().err
    assert "12 documents of 42 are copies" in said and "rows.jsonl:1 (byte 0)" in said and "rows.jsonl:31 " in said
    assert not (tmp_path / "other").exists()


def test_rows_that_cannot_be_read_are_counted_named_and_limited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path / "rows.jsonl", [*numbered(30), " "])
    rows.write_bytes(rows.read_bytes() + b'{"text": "privateword"\n')
    assert split(rows, "--out", tmp_path / "out") == 4
    said = capsys.readouterr().err
    assert "1 of 32 documents" in said and "rows.jsonl:32" in said and "privateword" not in said
    assert os.listdir(tmp_path) == ["rows.jsonl"]
    assert split(rows, "--out", tmp_path / "out", "--config.data.max_quarantined", "0.1") == 0
    counts = split_manifest.read(tmp_path / "out")["counts"]
    assert counts == {
        "read": 32,
        "written": 30,
        "filtered": 1,
        "quarantined": 1,
        "copies": 0,
        "dropped": 0,
        "blocked": 0,
        "findings": {},
    }
    (bad,) = (tmp_path / "out" / "quarantined.ndjson").read_text().splitlines()
    assert json.loads(bad)["line"] == 32 and "privateword" not in bad


def learnt(path: Path, **changes: Any) -> collections.Counter[tuple[Any, ...]]:
    """The pieces of the documents of a file as training has them."""
    settings = resolve(data__paths=(str(path),), data__document_bytes=16384, **changes)
    (part,) = opened(settings)
    training = layout.Training(separator="\n", template=layout.ChatTemplate(CHAT, ()))
    reader, report = mixture.reader(settings, (part, "all"), training), Report()
    found = collections.Counter(tuple(pieces) for pieces in reader.read(range(part.corpus.num_units), report))
    assert not report.quarantined
    return found


CHAT = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
KINDS = [
    *({"text": f"text {number} of person{number}@example.org, é\u2028"} for number in range(12)),
    *(
        {"prompt": f"ask {number}", "completion": f"answer {number} ghp_{'a1B2' * 9}", "text": "x"}
        for number in range(12)
    ),
    *(
        {
            "messages": [
                {"role": "user", "content": f"hello {number} from a{number}@example.org"},
                {"role": "assistant", "content": f"good day {number}, b{number}@example.org"},
            ]
        }
        for number in range(12)
    ),
]


def test_what_is_written_trains_as_its_source_does(tmp_path: Path) -> None:
    """Texts, instructions and chats keep their fields, and what is redacted is still not learnt."""
    rows = write(tmp_path / "rows.jsonl", KINDS)
    assert split(rows, "--out", tmp_path / "out", "--fractions=0.5,0.5") == 0
    found = [learnt(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "validation")]
    assert found[0] + found[1] == learnt(rows)
    assert any(not piece.learnt and piece.text == "[REDACTED:email]" for pieces in found[0] for piece in pieces)
    assert {tuple(sorted(row)) for row in contents(tmp_path / "out")["train"]} == {
        ("text",),
        ("completion", "prompt"),
        ("messages",),
    }


def test_other_sources_and_field_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("".join(f"{cell}\n" for cell in ["body", *(f'"row, {n}"' for n in range(30))]))
    named = "--config.data.text_field=body"
    assert split(tmp_path / "a.csv", "--out", tmp_path / "out", named) == 0
    assert sorted(row["body"] for found in contents(tmp_path / "out").values() for row in found) == sorted(
        f"row, {number}" for number in range(30)
    )
    (tmp_path / "a.txt").write_text("".join(f"line {number}\n" for number in range(400)))
    assert split(tmp_path / "a.txt", "--out", tmp_path / "lines", "--config.data.document_bytes=64") == 0
    whole = "".join(text for found in texts(tmp_path / "lines").values() for text in found)
    assert sorted(whole.splitlines()) == sorted((tmp_path / "a.txt").read_text().splitlines())


def test_nothing_secret_is_written_unless_asked_for_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", [f"{text} by a{text[-1]}@example.org" for text in numbered(30)])
    assert split(rows, "--out", tmp_path / "out") == 0
    facts = split_manifest.read(tmp_path / "out")
    assert facts["counts"]["findings"] == {"redact/email": 30} and facts["safety"] != "off"
    assert not [name for name, held in files(tmp_path / "out").items() if b"example.org" in held]
    found = [json.loads(line) for line in (tmp_path / "out" / "safety.ndjson").read_text().splitlines()]
    assert len(found) == 30 and len({row["hash"] for row in found}) == 10  # of as many addresses
    capsys.readouterr()
    assert (
        split(rows, "--out", tmp_path / "raw", "--config.safety.enabled=false", "--config.safety.bypass_reason=a test")
        == 0
    )
    assert "pass as they are" in capsys.readouterr().err
    assert b"example.org" in files(tmp_path / "raw")["train.jsonl"]
    assert split_manifest.read(tmp_path / "raw")["safety"] == "off"


def test_documents_that_redaction_makes_equal_are_copies(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [f"write to a{number}@example.org" for number in range(20)] + numbered(20))
    assert split(rows, "--out", tmp_path / "out") == 0
    assert split_manifest.read(tmp_path / "out")["counts"]["copies"] == 19
    holding = [name for name, found in texts(tmp_path / "out").items() if "write to [REDACTED:email]" in found]
    assert len(holding) == 1


def test_verify_names_the_first_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = write(tmp_path / "rows.jsonl", numbered(30)), tmp_path / "out"
    assert split(rows, "--out", out) == 0
    assert app.main(["data", "verify", str(out)]) == 0
    assert "1 source and 5 files are as they were" in capsys.readouterr().out
    held = (out / "test.jsonl").read_bytes()
    (out / "test.jsonl").write_bytes(held.replace(b"number", b"mumber", 1))
    assert app.main(["data", "verify", str(out), "--json"]) == 3
    said = capsys.readouterr()
    assert f"{out}/test.jsonl: SHA-256 differs" in said.err
    assert json.loads(said.out)["ok"] is False
    (out / "test.jsonl").unlink()
    assert app.main(["data", "verify", str(out)]) == 3
    assert "test.jsonl cannot be read: No such file" in capsys.readouterr().err
    (out / "test.jsonl").write_bytes(held)
    rows.write_bytes(rows.read_bytes().replace(b"number", b"mumber", 1))
    assert app.main(["data", "verify", str(out)]) == 3
    assert "rows.jsonl: SHA-256" in capsys.readouterr().err
    (out / "manifest.json").write_text((out / "manifest.json").read_text().replace('"seed": 0', '"seed": 1'))
    assert app.main(["data", "verify", str(out)]) == 3
    assert "its root digest does not fit" in capsys.readouterr().err


def test_what_cannot_be_split_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = write(tmp_path / "rows.jsonl", numbered(30)), tmp_path / "out"
    cases = {
        "name the files to split": [],
        "are held out already": [rows, f"--config.data.validation_paths={rows}"],
        "split the files of each on their own": [f"--config.data.mix.a.paths={rows}"],
        "nowhere.jsonl does not exist; correct PATH": [tmp_path / "nowhere.jsonl"],
        "does not exist; correct data.paths": [f"--config.data.paths={tmp_path / 'nowhere.jsonl'}"],
        "data.source=xml does not exist": [rows, "--config.data.source=xml"],
        "unknown argument --seeds=1": [rows, "--seeds=1"],
    }
    for expected, args in cases.items():
        assert split(*args, "--out", out) == (3 if "; correct " in expected else 2)
        assert expected in capsys.readouterr().err
    out.mkdir()
    assert split(rows, "--out", out) == 0  # an empty directory is as good as none
    before = files(out)
    assert split(rows, "--out", out) == 2
    assert "is there already" in capsys.readouterr().err
    assert files(out) == before and sorted(os.listdir(tmp_path)) == ["out", "rows.jsonl"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data.duplicates=drop", "data.duplicates: use --duplicates"),
        ("data.test_fraction=0.2", "data.test_fraction: use --fractions"),
        ("data.validation_fraction=0.2", "data.validation_fraction: use --fractions"),
        ("data.mode=store", "data.mode: leave it out"),
        ("data.packing=first_fit", "data.packing: leave it out"),
        ("data.chat_template=a", "data.chat_template: leave it out"),
        ("train.num_steps=5", "train.num_steps: leave it out"),
        ("data.seed=3", "data.seed=3 contradicts this command, which has 4: leave it out"),
        ("data.paths=a.jsonl", "data.paths=a.jsonl contradicts this command, which has ['"),
    ],
)
def test_setting_that_changes_nothing_of_a_split_is_refused(
    given: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path / "rows.jsonl", numbered(30))
    assert split(rows, "--out", tmp_path / "out", "--seed=4", f"--config.{given}") == 2
    assert said in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_config_of_training_may_be_split_by_unless_it_has_fractions_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, made = write(tmp_path / "rows.jsonl", numbered(30)), tmp_path / "c.py"
    made.write_text(
        "from codex_jax import config\n\n\ndef get_config():\n    settings = config.default()\n"
        f"    settings.data.paths = ({str(rows)!r},)\n    settings.data.mode = 'store'\n    return settings\n"
    )
    settings = ["data.seed=4", "data.max_quarantined=0.5", "data.max_line_bytes=100", "data.window_bytes=2000"]
    args = ["--out", tmp_path / "out", f"--config={made}", *(f"--config.{one}" for one in settings)]
    assert split(*args) == 0
    made.write_text(made.read_text().replace("mode = 'store'", "test_fraction = 0.1"))
    assert split(*args) == 2
    assert "data.test_fraction: use --fractions" in capsys.readouterr().err


def test_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", numbered(30))
    (tmp_path / "file").write_text("")
    assert split(rows, "--out", tmp_path / "file" / "out") in (3, 4)
    assert "cannot" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["file", "rows.jsonl"]


def test_keys_are_found_whatever_bytes_they_end_in() -> None:
    made = [bytes([first]) + bytes(15) for first in range(5)] + [bytes(15) + b"\1", b"\xff" * 16]
    keys = allotment.gather(bytearray(b"".join(made + made[:2])))
    assert [keys.rank(one) for one in sorted(made)] == list(range(7))
    assert keys.rank(bytes(14) + b"\1\0") is None and keys.rank(b"\xfe" * 16) is None
    assert np.sum(keys.copies) == 9
    with pytest.raises(ConfigError):
        allotment.parse("")


def test_full_disk_ends_with_4_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, limits = write(tmp_path / "rows.jsonl", numbered(3000)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        assert split(rows, "--out", tmp_path / "out") == 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["rows.jsonl"]
