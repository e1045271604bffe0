"""The corpora a run learns from, each by its name and with its weight."""

import dataclasses
from fractions import Fraction
from typing import Any, NamedTuple

from codex_jax import config
from codex_jax.data import copies, labels
from codex_jax.data.copies import Copies
from codex_jax.data.corpus import Corpus, open_corpus
from codex_jax.data.layout import Layout
from codex_jax.data.reader import Reader
from codex_jax.safety.gate import Gate


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
    copies: Copies
    """the documents that any source validates on in files of its own"""
    gate: Gate
    """the same for all: what the fingerprint says of the rules is said of those that the texts meet"""
    stage: str = "train"
    """of the safety policy: train or eval"""


Mixture = tuple[Part, ...]
# A source, and which split of it.
Chosen = tuple[Part, str]
_DECIDE_DOCUMENTS = (
    "text_field",
    "prompt_field",
    "completion_field",
    "messages_field",
    "document_bytes",
    "max_line_bytes",
)
# Named only where it differs, so that stores and positions of before there was a choice are still read.
_DOCUMENT = config.Data().document


def open_mixture(data: config.Data, guard: Gate) -> Mixture:
    """Open every corpus of data.mix, or the one that `data` itself describes; raises what `open_corpus` does.

    Nothing of them is read but their ends, and what there is to validate on in files of its own: to know it again.
    """
    parts = _parts(data, guard)
    separate = [(part.corpus.validation, part.data) for part in parts if part.corpus.validation]
    found = copies.find(separate, data.duplicates)
    return tuple(part._replace(copies=found) for part in parts)


def _parts(data: config.Data, guard: Gate) -> list[Part]:
    if not data.mix:
        return [alone(data, guard)]
    parts = []
    for name, ingredient in data.mix.items():
        values = {field.name: getattr(ingredient, field.name) for field in dataclasses.fields(config.Origin)}
        key = f"data.mix.{name}"
        own = dataclasses.replace(data, **values)
        # A weight is what was typed: 0.3 is three tenths, not the nearest binary fraction.
        weight = Fraction(repr(ingredient.weight))
        parts.append(Part(name, key, own, open_corpus(own, key), weight, copies.NONE, guard))
    return parts


def alone(data: config.Data, guard: Gate, called: str = "") -> Part:
    """Return what `data` itself describes, without a mixture; `called` as in `open_corpus`."""
    return Part("data", "data", data, open_corpus(data, "data", called), Fraction(0), copies.NONE, guard)


def for_training(part: Part) -> Chosen:
    """Return what of a source is trained on."""
    return part, "all" if part.corpus.validation else "train"


def for_validation(part: Part) -> Chosen:
    """Return what of a source is validated on."""
    part = part._replace(copies=copies.NONE, stage="eval")  # the copies are what is validated on
    separate = part.corpus.validation
    return (part._replace(corpus=separate), "all") if separate else (part, "validation")


def for_test(part: Part) -> Chosen:
    """Return what of a source is kept for a last test."""
    return part._replace(stage="eval"), "test"


def reader(settings: config.Config, chosen: Chosen, layout: Layout) -> Reader:
    """Return what reads a split of a source."""
    part, split = chosen
    return Reader(
        corpus=part.corpus,
        data=part.data,
        gate=part.gate,
        stop_if_blocked=settings.safety.on_block == "stop",
        stage=part.stage,
        split=split,
        layout=layout,
        copies=part.copies,
    )


def content(part: Part) -> dict[str, Any]:
    """Return everything that decides which documents of a source are trained on and what they say."""
    data, separate = part.data, part.corpus.validation
    return {
        "corpus": part.corpus.fingerprint,
        "validation": separate.fingerprint if separate else "a share of the corpus",
        **part.copies.content(),
        "safety": part.gate.content(),
        "validation_fraction": 0.0 if separate else data.validation_fraction,
        "test_fraction": 0.0 if separate else data.test_fraction,
        **{name: getattr(data, name) for name in _DECIDE_DOCUMENTS},
        **labels.content(data),
        **({} if data.document == _DOCUMENT else {"document": data.document}),
        **({"max_expansion": data.max_expansion} if _is_compressed(part.corpus) else {}),
    }


def _is_compressed(corpus: Corpus) -> bool:
    return corpus.is_compressed or (corpus.validation is not None and corpus.validation.is_compressed)
