"""`codex-jax data`: a store is built and looked at with the flags of training; wrong usage ends with code 2."""

import json
from pathlib import Path

import numpy as np
import pytest

from codex_jax import config
from codex_jax.cli import app, batch_text
from codex_jax.data.batch import Batch


pytestmark = pytest.mark.data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """A small configuration of rows with an address each."""
    rows = tmp_path / "rows.jsonl"
    texts = [f"row number {number} is by person{number}@example.org, who wrote it" for number in range(60)]
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    keys = {
        "data.paths": rows,
        "data.store": tmp_path / "store",
        "data.mode": "store",
        "data.sequence_length": 32,
        "train.global_batch_size": 2,
        "tokenizer.vocab_size": 300,
        "data.validation_fraction": 0.2,
    }
    return [f"--config={ROOT}/configs/gpt2.py:tiny", *(f"--config.{name}={value}" for name, value in keys.items())]


def test_build_then_verify_then_show(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["data", "show", *flags]) == 3
    assert "make it with `codex-jax data build`" in capsys.readouterr().err
    assert app.main(["data", "build", *flags, "--workers", "0"]) == 0
    assert f"store      {tmp_path / 'store'}" in capsys.readouterr().out
    again = ["--config.safety.bypass=true", "--config.safety.bypass_reason=a manual"]
    assert app.main(["data", "build", *flags, *again, f"--config.data.store={tmp_path / 'other'}"]) == 0
    said = capsys.readouterr()
    assert "is let through. The reason given: a manual" in said.err and " 0 blocked," in said.out
    assert app.main(["data", "build", *flags]) == 0  # there is nothing left to do
    assert app.main(["data", "verify", str(tmp_path / "store")]) == 0
    assert "1 source and 2 shards are as they were" in capsys.readouterr().out
    assert app.main(["data", "show", *flags, "--batch", "2"]) == 0
    shown = capsys.readouterr().out
    assert "batch 2 of data.mode=store: 2 rows of 32 tokens" in shown and "row 1" in shown
    assert "document 1, positions 0 to " in shown and "[REDACTED:email]" in shown and "example.org" not in shown


def test_show_of_a_stream_is_the_batch_of_that_number(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    stream = [*flags, "--config.data.mode=stream", "--config.data.store="]
    shown = []
    for number in ("0", "1", "1"):
        assert app.main(["data", "show", *stream, "--batch", number]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] != shown[1] == shown[2]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["build"], "Missing option '--config'"),
        (["build", "--config=configs/nowhere.py"], "does not exist"),
        (["build", "--config.data.mode=stream"], "data.mode=stream contradicts this command, which has store"),
        (["build", "--config.data.workers=1", "--workers=2"], "data.workers=1 contradicts this command, which has 2"),
        (["verify"], "Missing argument"),
        (["show", "--configs.data.mode=store"], "configs.data.mode"),
    ],
)
def test_wrong_usage_ends_with_2(
    args: list[str], expected: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [args[0], *flags, *args[1:]] if any("configs." in one or "config.data" in one for one in args) else args
    assert app.main(["data", *given]) == 2
    assert expected in capsys.readouterr().err


class Letters:
    """Decodes 1 to a, 2 to b and so on."""

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(96 + number) for number in ids)


BATCH = Batch(
    np.array([[1, 2, 3, 4, 5, 0]]),
    np.array([[2, 3, 4, 5, 0, 0]]),
    np.array([[1, 0, 0, 1, 0, 0]], np.float32),
    np.array([[1, 1, 1, 2, 2, 0]]),
    np.array([[0, 1, 2, 0, 1, 0]]),
)


def test_plain_text_sets_what_is_not_learnt_in_braces() -> None:
    assert list(batch_text.lines(BATCH, Letters(), config.Data(), coloured=False)) == [  # type: ignore[arg-type]
        "row 0",
        "  document 1, positions 0 to 2",
        "    {a}b{c}",
        "  document 2, positions 0 to 1",
        "    {d}e",
        "  padding, 1 token",
    ]
    assert batch_text.summary(BATCH) == "1 row of 6 tokens, 5 read, 2 learnt, 1 padding"


def test_of_a_masked_batch_the_token_itself_is_learnt() -> None:
    data = config.Data(objective="masked")
    shown = "\n".join(batch_text.lines(BATCH, Letters(), data, coloured=False))  # type: ignore[arg-type]
    assert "    a{bc}" in shown and "    d{e}" in shown


def test_colours_say_the_same() -> None:
    shown = "\n".join(batch_text.lines(BATCH, Letters(), config.Data(), coloured=True))  # type: ignore[arg-type]
    assert "\x1b[33m{a}\x1b[0m\x1b[32mb\x1b[0m\x1b[33m{c}\x1b[0m" in shown and "\x1b[90m  padding" in shown
