"""The way from files to batches: what the rest of the program calls.

corpus = open_corpus(config.data)
tokenizer = make_tokenizer(config, corpus)
stream = train_stream(config, corpus, tokenizer, batch_size)
batches, report = validation_batches(config, corpus, tokenizer, batch_size)
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_jax import config, digest
from codex_jax.data import layout as layouts
from codex_jax.data import order, sources, validation, window
from codex_jax.data.batch import Batch
from codex_jax.data.corpus import Corpus, open_corpus
from codex_jax.data.encoding import Encoder
from codex_jax.data.layout import Layout
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.data.stream import TrainStream, nothing_to_learn
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety import engine
from codex_jax.tokenizers import loading, training
from codex_jax.tokenizers.tokenizer import Tokenizer


__all__ = ["Corpus", "TrainStream", "make_tokenizer", "open_corpus", "train_stream", "validation_batches"]

# Not the run's seed: another seed trains on the same tokens and is judged by the same text.
_FIXED_SEED = 0
_DECIDE_DOCUMENTS = (
    "text_field",
    "prompt_field",
    "completion_field",
    "messages_field",
    "document_bytes",
    "max_line_bytes",
)


def make_tokenizer(settings: config.Config, corpus: Corpus) -> Tokenizer:
    """Load tokenizer.path, or train one on tokenizer.train_bytes of the training split, redacted and shuffled.

    The trained one is kept in the cache and found again for the same corpus and settings. Raises AssetError.
    """
    if settings.tokenizer.path:
        return loading.load(Path(settings.tokenizer.path))
    content = {
        **_content(settings, corpus),
        "unit_bytes": sources.SOURCES.get(corpus.source).unit_bytes(settings.data),
        "train_bytes": settings.tokenizer.train_bytes,
    }
    return training.cached(lambda: _training_text(settings, corpus), settings.tokenizer.vocab_size, content)


def train_stream(settings: config.Config, corpus: Corpus, tokenizer: Tokenizer, batch_size: int) -> TrainStream:
    """Return the stream of training batches, at its beginning; nothing is read before the first batch is asked for."""
    data, seed = settings.data, _seed(settings)
    layout = layouts.for_training(data, tokenizer)
    build = window.Builder(
        encoder=Encoder(reader=_train_reader(settings, corpus, layout), tokenizer=tokenizer),
        order=order.make_order(corpus, data.window_bytes, seed),
    )
    fingerprint = {
        **_content(settings, corpus),
        "validation": corpus.validation.fingerprint if corpus.validation else "a share of the corpus",
        "tokenizer": tokenizer.digest,
        "data.prompt_separator": data.prompt_separator,
        "chat template": digest.of_json(list(layout.template)),
        "data.seed": seed,
        "data.sequence_length": data.sequence_length,
        "data.isolate_documents": data.isolate_documents,
        "data.window_bytes": data.window_bytes,
    }
    return TrainStream(build, batch_size, fingerprint)


def validation_batches(
    settings: config.Config, corpus: Corpus, tokenizer: Tokenizer, batch_size: int
) -> tuple[list[Batch], Report]:
    """Return eval.num_batches batches of the validation split, fewer when it is smaller, and what was read for them.

    They depend on the data alone, not on run.seed. Raises AssetError when nothing is held out.
    """
    layout = layouts.for_training(settings.data, tokenizer)
    source, split = (corpus.validation, "all") if corpus.validation else (corpus, "validation")
    build = window.Builder(
        encoder=Encoder(reader=_reader(settings, source, split, layout), tokenizer=tokenizer),
        order=order.make_order(source, settings.data.window_bytes, _FIXED_SEED),
    )
    return validation.batches(build, batch_size, settings.eval.num_batches)


def _seed(settings: config.Config) -> int:
    """Return the seed of the order of the data; ConfigError when the variable holds none."""
    given = os.environ.get("CODEX_DATA_SEED", "") if settings.data.seed < 0 else str(settings.data.seed)
    if not given:
        return settings.run.seed
    if not given.isdecimal():
        raise ConfigError(f"the variable CODEX_DATA_SEED={given!r} is not a seed: set it to 0, 1, 2 ... or unset it")
    return int(given)


def _train_reader(settings: config.Config, corpus: Corpus, layout: Layout) -> Reader:
    return _reader(settings, corpus, "all" if corpus.validation else "train", layout)


def _reader(settings: config.Config, corpus: Corpus, split: str, layout: Layout) -> Reader:
    return Reader(corpus=corpus, data=settings.data, redact=settings.safety.enabled, split=split, layout=layout)


def _content(settings: config.Config, corpus: Corpus) -> dict[str, Any]:
    """Return everything that decides which documents are trained on and what they say."""
    data = settings.data
    return {
        "corpus": corpus.fingerprint,
        "safety": engine.default().policy_digest() if settings.safety.enabled else "off",
        "data.validation_fraction": 0.0 if corpus.validation else data.validation_fraction,
        "data.test_fraction": 0.0 if corpus.validation else data.test_fraction,
        **{f"data.{name}": getattr(data, name) for name in _DECIDE_DOCUMENTS},
    }


def _training_text(settings: config.Config, corpus: Corpus) -> Iterator[str]:
    reader, left, report = _train_reader(settings, corpus, layouts.contents), settings.tokenizer.train_bytes, Report()
    places = range(corpus.num_units)
    units = (order.permuted(place, corpus.num_units, ("tokenizer",)) for place in places)
    for pieces in reader.read(units, report):
        text = "".join(piece.text for piece in pieces if piece.learnt)
        yield text
        left -= len(text.encode())
        if left <= 0:
            return
    if not report.trained:
        raise AssetError(nothing_to_learn([report]))
