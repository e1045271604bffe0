"""The figures behind MFU."""

import pytest

from codex_jax import config
from codex_jax.models import build
from codex_jax.training import flops


pytestmark = pytest.mark.model


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_a_device_is_known_by_whole_words(kind: str, tera: float | None) -> None:
    known = flops.known(kind)
    assert known == (None if tera is None else tera * 1e12)


def test_flops_of_a_token_are_those_of_the_paper() -> None:
    shape = build.define(config.Config().model).shape  # 124,439,808 parameters, of which 1024 x 768 are looked up
    expected = 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024
    assert flops.per_token(shape, 124_439_808, 124_439_808, 1024) == expected
    adapters = 2 * 12 * 8 * 1000
    assert flops.per_token(shape, 124_439_808, adapters, 1024) == expected - 2 * (124_439_808 - 1024 * 768 - adapters)
