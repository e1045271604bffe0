"""The curve of the loss as a picture: drawn of what there is, the same for the same ledger."""

import math

import pytest
import small_writer

from codex_jax.tracking import figure, report_facts


pytestmark = pytest.mark.infra


def test_the_same_curves_are_the_same_picture(tmp_path):
    pictures = []
    for name in ("one", "other"):
        with small_writer.bare(tmp_path / name) as writer:
            for step in range(1, 30):
                writer.scalars(step, "train", {"loss": math.nan if step == 4 else 8 / step})
            writer.scalars(29, "validation", {"loss": 1.5})
        drawn = figure.draw_losses(tmp_path / name, report_facts.collect(tmp_path / name), 29)
        assert drawn == tmp_path / name / "figures/loss-00000029.png"
        pictures.append(drawn.read_bytes())
    assert pictures[0] == pictures[1] and pictures[0].startswith(b"\x89PNG") and len(pictures[0]) > 5000


def test_without_a_loss_there_is_no_picture(tmp_path):
    with small_writer.bare(tmp_path) as writer:
        writer.scalars(1, "train", {"loss": math.nan})
    assert figure.draw_losses(tmp_path, report_facts.collect(tmp_path), 1) is None
    assert not (tmp_path / "figures").exists()
