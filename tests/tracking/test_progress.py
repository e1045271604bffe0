import math

import pytest

from codex_jax.tracking import progress


pytestmark = pytest.mark.infra


def test_the_line_reads_as_documented():
    line = progress.line(120, 600, loss=4.3211, tokens_per_sec=12_345.0, mfu=0.312, secs_left=83.2)
    assert line == "step   120/600  loss 4.321  12.3k tok/s  mfu 31%  left 1m23s"


def test_an_unknown_mfu_is_a_dash():
    assert "mfu   -  left" in progress.line(1, 2, loss=1.0, tokens_per_sec=1.0, mfu=None, secs_left=1.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e30, 12345.678])
def test_the_line_fits_80_columns(loss):
    line = progress.line(99_999_999, 100_000_000, loss=loss, tokens_per_sec=1e15, mfu=0.9, secs_left=math.nan)
    assert len(line) <= 80
    assert line.endswith("left -")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (12_345, "12.3k"),
        (99_960, "100k"),
        (124_439_808, "124M"),
    ],
)
def test_counts_are_short(number, text):
    assert progress.count(number) == text


@pytest.mark.parametrize(
    ("secs", "text"),
    [(0, "0s"), (59.6, "1m00s"), (83, "1m23s"), (7_500, "2h05m"), (273_600, "3d04h"), (-1, "-"), (math.inf, "-")],
)
def test_durations_are_short(secs, text):
    assert progress.duration(secs) == text


def test_the_table_is_aligned_and_wraps_long_values():
    table = progress.summary_table([("loss", "4.321"), ("best checkpoint", "x" * 100)])
    lines = table.split("\n")
    assert lines[0] == "loss             4.321"
    assert lines[1].startswith("best checkpoint  xxx")
    assert all(len(line) <= 80 for line in lines)
    assert table.count("x") == 100


def test_an_empty_table_is_empty():
    assert progress.summary_table([]) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(1.04, "1.0"), (85.349, "85.3"), (50_257.0, "50,257.0"), (3.2e60, "3e+60"), (math.inf, "inf")]
)
def test_a_perplexity_nobody_reads_is_short(value, text):
    assert progress.perplexity(value) == text
