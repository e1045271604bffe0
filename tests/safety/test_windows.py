"""A file that is examined in windows gives what examining it as a whole gives, wherever the windows end."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_jax.safety import engine, policy, windows
from codex_jax.safety.rule import Rule


pytestmark = pytest.mark.security

EXAMPLES = [text for rule in policy.default().rules for text in (*rule.finds, *rule.spares)]
PARTS = st.lists(st.one_of(st.sampled_from(EXAMPLES), st.text(max_size=9), st.sampled_from(["\n", "é ", "🔑\n"])))


def scanned(data: bytes, window: int, margin: int) -> list[windows.Place]:
    return list(windows.scan(io.BytesIO(data), engine.default(), "log", window, margin))


def places(text: str) -> list[tuple[int, int, str]]:
    return [
        (text.count("\n", 0, match.start) + 1, match.start - text.rfind("\n", 0, match.start), match.rule)
        for match in engine.default().examine(text, "log").matches
    ]


@given(PARTS, st.integers(1, 200))
@settings(max_examples=300, deadline=None)
def test_windows_find_what_the_whole_holds(parts: list[str], window: int) -> None:
    text = " ; ".join(parts)
    found = scanned(text.encode("utf-8", "surrogatepass"), window, 600)
    assert [place[:3] for place in found] == places(text)


def test_secret_across_every_boundary_is_found_once() -> None:
    text = "é" * 50 + " ghp_" + "a1B2" * 9 + " tail"
    for window in range(1, 120):
        assert [place[:3] for place in scanned(text.encode(), window, 64)] == [(1, 52, "github-token")]


def test_bytes_that_are_no_utf8_hide_nothing() -> None:
    data = b"\xff\xfe\x80 user@" + b"example.com \xe9\n\xff user@" + b"example.com"
    assert [place[:3] for place in scanned(data, 8, 64)] == [(1, 5, "email"), (2, 3, "email")]


def test_margin_holds_the_longest_key() -> None:
    body = "\n".join(["A1b2C3d4" * 8] * 190)
    text = "x" * 100 + f"\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n"
    assert len(text) < windows.MARGIN // 4
    (place,) = scanned(text.encode(), 120, windows.MARGIN)
    assert place[:3] == (2, 1, "private-key")


def test_memory_does_not_grow_with_the_file() -> None:
    class Endless(io.RawIOBase):
        left, largest = 40 << 20, 0

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= windows.WINDOW + windows.MARGIN
            size = min(size, self.left)
            self.left -= size
            return b"clean text\n" * (size // 11) + b" " * (size % 11)

    ours = engine.Engine(policy.Policy(rules=(Rule(id="r", patterns=("never1",)),)))
    assert list(windows.scan(Endless(), ours, "log")) == []  # type: ignore[arg-type]
