"""The corpora a run learns from, each by its name and with its weight."""

import dataclasses
from fractions import Fraction
from typing import NamedTuple

from codex_jax import config
from codex_jax.data.corpus import Corpus, open_corpus


class Part(NamedTuple):
    """One source of the mixture."""

    name: str
    key: str
    """what its settings are called: data.mix.NAME, or data where there is no mixture"""
    data: config.Data
    """the settings of all data, with what is said of this source in their place"""
    corpus: Corpus
    weight: Fraction
    """share of the bytes read, beside the others' weights; 0 for all: as large as they are"""


Mixture = tuple[Part, ...]


def open_mixture(data: config.Data) -> Mixture:
    """Open every corpus of data.mix, or the one that `data` itself describes; raises what `open_corpus` does."""
    if not data.mix:
        return (Part("data", "data", data, open_corpus(data, "data"), Fraction(0)),)
    parts = []
    for name, ingredient in data.mix.items():
        values = {field.name: getattr(ingredient, field.name) for field in dataclasses.fields(config.Origin)}
        key = f"data.mix.{name}"
        own = dataclasses.replace(data, **values)
        # A weight is what was typed: 0.3 is three tenths, not the nearest binary fraction.
        parts.append(Part(name, key, own, open_corpus(own, key), Fraction(repr(ingredient.weight))))
    return tuple(parts)
