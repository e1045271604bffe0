"""Long texts: the same ids as in one piece, and memory that does not grow with them."""

import json
import os
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from corpora import TOKENIZER
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_jax.data import encoding
from codex_jax.data.documents import Piece
from codex_jax.tokenizers import training


pytestmark = pytest.mark.data

LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.mark.parametrize("chars", [200, 201, 203, 207, 1000])
def test_parts_of_real_text_have_the_ids_of_the_whole(chars: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_PIECE_CHARS", chars)
    names = ("textwrap.py", "this.py", "test/test_unicode_identifiers.py")
    text = "".join((LIBRARY / name).read_text() for name in names)
    text += " \u00a0\n\x1c \x1d\t\u3000 don't  we'll\r\n\r\n  ok"
    parts = list(encoding.cut(text))
    assert len(parts) > len(text) / chars and max(map(len, parts)) <= chars
    tokenizer = training.train([text], 2000)  # one that has tokens of several blanks
    (whole,) = tokenizer.encode([text])
    assert np.array_equal(np.concatenate(encoding.encode(tokenizer, [Piece(part, True) for part in parts], 256)), whole)


@given(st.text(alphabet=" \t\n\u00a0\u2028a1.'é🙂s", max_size=40))
@settings(deadline=None, max_examples=500)
def test_parts_of_any_text_are_the_text(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_PIECE_CHARS", 7)
        parts = list(encoding.cut(text))
    assert "".join(parts) == text and all(len(part) <= 7 for part in parts)
    assert (
        TOKENIZER.decode(np.concatenate(encoding.encode(TOKENIZER, [Piece(part, True) for part in parts], 2)).tolist())
        == text
    )


def test_text_without_white_space_is_cut_at_a_character() -> None:
    parts = list(encoding.cut("🙂" * 200_000))
    assert [len(part) for part in parts] == [65_536, 65_536, 65_536, 3392]


@pytest.mark.parametrize(("sizes", "calls"), [([500_000] * 5, [2, 2, 1]), ([5] * 7, [3, 3, 1]), ([1_200_000], [1])])
def test_calls_are_bounded_in_texts_and_in_length(sizes: list[int], calls: list[int]) -> None:
    seen = []

    class Counting:
        def encode(self, texts: list[str], *, special: bool) -> list[np.ndarray]:
            seen.append(len(texts))
            return [np.array([len(text)]) for text in texts]

    found = encoding.encode(Counting(), [Piece("x" * size, True) for size in sizes], 3)  # type: ignore[arg-type]
    assert seen == calls and [int(ids[0]) for ids in found] == sizes


PROGRAM = """
import resource, sys
from corpora import TOKENIZER, opened, resolve
from codex_jax.data import pipeline
settings = resolve(data__paths=(sys.argv[1],), data__validation_fraction=1e-9, data__max_line_bytes=1 << 26)
stream = pipeline.train_stream(settings, opened(settings), TOKENIZER, 1)
next(stream)
stream.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_one_long_row_costs_little_memory(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (0.01, 8):
        path = tmp_path / f"{megabytes}.jsonl"
        path.write_text(json.dumps({"text": "the quick brown fox " * int(megabytes * 50_000)}) + "\n")
        command = [sys.executable, "-c", PROGRAM, str(path)]
        root, here = Path(__file__).parents[2], Path(__file__).parent
        env = {**os.environ, "PYTHONPATH": f"{root}:{here}"}
        made = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        peaks.append(int(made.stdout) / 1024)
    # The row itself as bytes, JSON, text and ids; encoded at once it took 1,100 MiB more.
    assert peaks[1] - peaks[0] < 250


READER = """
import resource, sys
from corpora import TOKENIZER, opened, resolve
from codex_jax.data import pipeline
settings = resolve(data__paths=(sys.argv[1],))
stream = pipeline.train_stream(settings, opened(settings), TOKENIZER, 64)
while stream.state()["window"] < 8:
    next(stream)
stream.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_two_gigabytes_are_read_in_half_a_gigabyte_of_memory(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    draw, words = random.Random(0), ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
    lines = (json.dumps({"text": f"{number} " + " ".join(draw.choices(words, k=40))}) for number in range(50_000))
    (corpus / "0.jsonl").write_text("\n".join(lines) + "\n")
    size = (corpus / "0.jsonl").stat().st_size
    for number in range(1, 2_000_000_000 // size + 1):
        os.link(corpus / "0.jsonl", corpus / f"{number}.jsonl")  # another file to who reads it, and no more disk
    root, here = Path(__file__).parents[2], Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": f"{root}:{here}"}
    command = [sys.executable, "-c", READER, str(corpus)]
    made = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert int(made.stdout) < 512 * 1024
