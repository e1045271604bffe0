"""Lines of files in chunks: the same whatever the chunk, all of them, again from the start when asked again."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_jax.errors import AssetError
from codex_jax.tokenizers import lines
from codex_jax.tokenizers.lines import Lines


pytestmark = pytest.mark.data


def test_small_chunks_yield_the_whole_lines_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("alpha\nbeta\n")
    reader = Lines(files=(path,), chunk_bytes=3)
    iterator = iter(reader)
    assert next(iterator) == "alpha\n"  # an attempt that fails half way
    assert list(reader) == list(reader) == ["alpha\n", "beta\n"]


@given(
    texts=st.lists(st.text(alphabet="a\u00e9\U0001f642\r\n\u2028 "), min_size=1, max_size=3), chunk=st.integers(1, 9)
)
@settings(deadline=None)
def test_lines_do_not_depend_on_chunks(texts: list[str], chunk: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("lines")
    files = tuple(directory / str(number) for number in range(len(texts)))
    for path, text in zip(files, texts, strict=True):
        path.write_bytes(text.encode())
    expected = [line for text in texts for line in text.replace("\n", "\n\0").split("\0") if line]
    with pytest.MonkeyPatch.context() as patch:
        for limit in (1_048_576, 3):
            patch.setattr(lines, "_LINE_CHARS", limit)
            cut = [line[start : start + limit] for line in expected for start in range(0, len(line), limit)]
            assert list(Lines(files=files, chunk_bytes=chunk)) == list(Lines(files=files)) == cut
    assert "".join(Lines(files=files, chunk_bytes=chunk).texts()) == "".join(texts)


def test_text_that_is_not_utf8_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "latin"
    path.write_bytes("h\u00e9h\u00e9".encode() + b"ab\xe9c")
    for chunk in (1, 2, 3, 100):
        with pytest.raises(AssetError, match="latin is not UTF-8 at byte 8"):
            list(Lines(files=(path,), chunk_bytes=chunk))
    path.write_bytes(b"ab\xc3")
    with pytest.raises(AssetError, match="latin is not UTF-8 at byte 2"):
        list(Lines(files=(path,), chunk_bytes=2))


def test_patterns_name_each_file_once_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b/deep/x.txt", "b/y.txt", "a.txt", "c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("" if "c" not in name else "text")
    assert list(map(str, lines.find(["**/*.txt", "a.txt", "c.md"]))) == ["a.txt", "b/deep/x.txt", "b/y.txt", "c.md"]
    assert list(map(str, lines.find(["b", "c.*"]))) == ["b/deep/x.txt", "b/y.txt", "c.md"]
    with pytest.raises(AssetError, match=r"no file matches \*\.rst, nowhere/\*\*"):
        lines.find(["*.rst", "nowhere/**"])
    with pytest.raises(AssetError, match=r"every file that matches b, a\.txt is empty"):
        lines.find(["b", "a.txt"])


def test_sample_is_drawn_by_its_seed_from_all_over(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("".join(f"line {number} of many\n" for number in range(50_000)))
    reader = Lines(files=(path,))
    samples = ["".join(reader.sample(200_000, seed)) for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]
    assert 150_000 < len(samples[0]) < 250_000
    assert int(samples[0].splitlines()[-1].split()[1]) > 45_000
    assert "".join(reader.sample(10**9, 1)) == path.read_text()


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed_files_have_the_lines_and_the_samples_of_plain_ones(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    plain, packed = tmp_path / "text", tmp_path / f"text{suffix}"
    plain.write_text("".join(f"line {number} of é many\n" for number in range(50_000)))
    packed.write_bytes(compress(plain.read_bytes()))
    readers = [Lines(files=(path,)) for path in (plain, packed)]
    assert list(readers[0]) == list(readers[1]) == list(Lines(files=(packed,), chunk_bytes=700))
    sizes = [sum(map(len, reader.sample(300_000, 1))) for reader in readers]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(AssetError, match=rf"text\{suffix} cannot be read to its end: it was cut off"):
        list(readers[1])
