"""What gzip and zstd have compressed: read piece by piece to the last byte, or to the first that is damaged."""

import gzip
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard

from codex_jax import inflate


pytestmark = pytest.mark.data

DRAW = random.Random(0)
TEXT = "".join(f"{number} {DRAW.random()}\n" for number in range(30_000)).encode()


def zstd(text: bytes, **options: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(write_checksum=True, **options)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return writer.compress(text) + writer.flush()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd}
SKIPPABLE = struct.pack("<II", 0x184D2A5F, 1000) + bytes(1000)


def blocks_of(content: bytes, size: int = 65_536) -> inflate.Blocks:
    return lambda: (content[at : at + size] for at in range(0, len(content), size))


def read(content: bytes, suffix: str, most: float = 200.0) -> tuple[bytes, inflate.Damaged | None]:
    """The text that comes, and what ended it."""
    text = bytearray()
    try:
        for piece, _ in inflate.inflate(blocks_of(content), suffix, most):
            text += piece
    except inflate.Damaged as damage:
        return bytes(text), damage
    return bytes(text), None


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
def test_members_are_read_one_after_the_other(suffix: str) -> None:
    parts = [b"", TEXT[:1000], b"", *(TEXT[at : at + 40] for at in range(1000, 5000, 40)), TEXT[5000:]]
    content = b"".join(map(COMPRESS[suffix], parts))
    assert read(content, suffix) == (TEXT, None)
    if suffix == ".zst":
        assert read(SKIPPABLE + content + SKIPPABLE, suffix) == (TEXT, None)
    else:
        assert read(content + bytes(5000), suffix) == (TEXT, None)


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
@pytest.mark.parametrize("size", [1024, 65_536])
def test_which_text_comes_by_which_byte_does_not_depend_on_the_blocks(suffix: str, size: int) -> None:
    content = COMPRESS[suffix](TEXT[:20_000]) + COMPRESS[suffix](TEXT[20_000:60_000])
    whole = [ends(inflate.inflate(blocks_of(content, n), suffix, 200.0)) for n in (512, size)]
    assert whole[0] == whole[1] and len(whole[0]) > 1
    assert whole[0][60_000] == len(content)


def ends(pieces: Iterator[tuple[bytes, int]]) -> dict[int, int]:
    found, offset = {}, 0
    for piece, at in pieces:
        offset += len(piece)
        found[offset] = at
    return found


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
@pytest.mark.parametrize("kept", [0.001, 0.3, 0.7])
def test_what_was_cut_off_is_read_to_the_cut(suffix: str, kept: float) -> None:
    first, second = COMPRESS[suffix](TEXT[:100_000]), COMPRESS[suffix](TEXT)
    content = first + second[: int(len(second) * kept)]
    text, damage = read(content, suffix)
    assert (TEXT[:100_000] + TEXT).startswith(text) and len(text) >= 100_000
    assert damage is not None and "it was cut off" in str(damage) and damage.position == len(content)


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
@pytest.mark.parametrize("garbage", [b"garbage behind", b"\xff" * 5000, b"\x1f\x8b\x08"])
def test_garbage_behind_the_end_costs_nothing_before_it(suffix: str, garbage: bytes) -> None:
    content = COMPRESS[suffix](TEXT)
    text, damage = read(content + garbage, suffix)
    assert text == TEXT and damage is not None
    assert len(content) <= damage.position <= len(content) + len(garbage)


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
def test_wrong_checksum_is_named_and_members_before_it_are_whole(suffix: str) -> None:
    first, second = COMPRESS[suffix](TEXT[:50_000]), bytearray(COMPRESS[suffix](TEXT[50_000:]))
    second[-8 if suffix == ".gz" else -4] ^= 1
    text, damage = read(first + second, suffix)
    assert text == TEXT
    assert damage is not None and ("incorrect data check" in str(damage) or "checksum" in str(damage))


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
def test_byte_that_was_changed_costs_what_follows_it_and_nothing_before(suffix: str) -> None:
    """All that a decoder makes of the bytes one by one is what there is to have."""
    content = bytearray(COMPRESS[suffix](TEXT))
    for at in range(len(content) // 3, len(content), len(content) // 5):
        broken = content.copy()
        broken[at : at + 40] = b"\xff" * 40
        text, damage = read(bytes(broken), suffix)
        assert damage is not None
        assert text == one_by_one(bytes(broken), suffix)


def one_by_one(content: bytes, suffix: str) -> bytes:
    decoder = zlib.decompressobj(31) if suffix == ".gz" else zstandard.ZstdDecompressor().decompressobj()
    text = bytearray()
    try:
        for at in range(len(content)):
            text += decoder.decompress(content[at : at + 1])
    except (zlib.error, zstandard.ZstdError):
        pass
    return bytes(text)


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
def test_what_is_no_such_file_is_damaged_from_its_first_byte(suffix: str) -> None:
    text, damage = read(b'{"text": "not compressed at all"}\n' * 100, suffix)
    assert text == b"" and damage is not None and damage.position < 4
    assert "it is no whole " in str(damage)


def test_window_that_would_take_gigabytes_is_refused() -> None:
    text, damage = read(zstd(TEXT, window_log=31), ".zst")
    assert text == b"" and "a window of more than 134.2 MB" in str(damage)


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
def test_bomb_ends_where_it_has_grown_too_much_at_a_bounded_price(suffix: str) -> None:
    content = COMPRESS[suffix](TEXT) + COMPRESS[suffix](bytes(200_000_000))
    tracemalloc.start()
    size, damage = 0, None
    try:
        for piece, _ in inflate.inflate(blocks_of(content), suffix, 200.0):
            size += len(piece)
    except inflate.Damaged as error:
        damage = error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert damage is not None and "data.max_expansion=200 times its size" in str(damage)
    assert len(TEXT) < size < len(TEXT) + 40_000_000 and peak < 80_000_000


@pytest.mark.parametrize("suffix", inflate.SUFFIXES)
def test_what_is_very_much_alike_is_no_bomb_while_it_is_small(suffix: str) -> None:
    alike = b"the same line\n" * 1_000_000
    assert read(COMPRESS[suffix](alike), suffix) == (alike, None)
    assert read(COMPRESS[suffix](alike * 3), suffix)[1] is not None
    assert read(COMPRESS[suffix](alike * 3), suffix, 1e6) == (alike * 3, None)


@pytest.mark.parametrize(
    ("path", "suffix", "inside"),
    [
        ("a.jsonl.gz", ".gz", "a.jsonl"),
        ("d/A.TXT.ZST", ".zst", "d/A.TXT"),
        ("a.gz.txt", "", "a.gz.txt"),
        ("🙂 \n.csv.gz", ".gz", "🙂 \n.csv"),
    ],
)
def test_name_says_how_a_file_is_compressed_and_what_is_inside(path: str, suffix: str, inside: str) -> None:
    assert (inflate.suffix_of(path), inflate.name_inside(path)) == (suffix, inside)
