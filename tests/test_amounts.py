"""Amounts as people read them."""

import pytest

from codex_jax import amounts


pytestmark = pytest.mark.infra


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (999_940, "999.9 kB"),
        (999_950, "1.0 MB"),
        (30_300_000, "30.3 MB"),
        (70_519_000_000, "70.5 GB"),
        (5e15, "5,000.0 TB"),
    ],
)
def test_sizes_have_the_unit_that_fits(num_bytes: float, text: str) -> None:
    assert amounts.size(num_bytes) == text


def test_one_is_no_plural() -> None:
    assert [amounts.counted(number, "file") for number in (0, 1, 1_588)] == ["0 files", "1 file", "1,588 files"]
