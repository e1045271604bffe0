"""The way from files to batches: what the rest of the program calls.

corpus = open_corpus(config.data)
tokenizer = make_tokenizer(config, corpus)
build_store(config, corpus, tokenizer)        where config.data.mode is store
stream = train_stream(config, corpus, tokenizer, batch_size)
batches, report = validation_batches(config, corpus, tokenizer, batch_size)
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from codex_jax import cache, config, digest
from codex_jax.data import build, order, plan, sources, store, validation, window
from codex_jax.data.batch import Batch
from codex_jax.data.corpus import Corpus, open_corpus
from codex_jax.data.encoding import Encoder
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.data.store import Store
from codex_jax.data.store_stream import StoreStream
from codex_jax.data.stream import TrainStream, nothing_to_learn
from codex_jax.errors import AssetError
from codex_jax.safety import engine
from codex_jax.tokenizers import loading, training
from codex_jax.tokenizers.tokenizer import Tokenizer


__all__ = [
    "Corpus",
    "Store",
    "StoreStream",
    "TrainStream",
    "build_store",
    "make_tokenizer",
    "open_corpus",
    "train_stream",
    "validation_batches",
]

# Not the run's seed: another seed trains on the same tokens and is judged by the same text.
_FIXED_SEED = 0


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


def build_store(
    settings: config.Config, corpus: Corpus, tokenizer: Tokenizer, between: Callable[[], None] = lambda: None
) -> Store:
    """Return the store of these settings, made now where it is missing, by data.workers processes.

    `between` is called several times a second and may raise to stop. Errors are those of `build.build`.
    """
    make = functools.partial(build.in_processes, workers=settings.data.workers, between=between)
    made = store_plan(settings, corpus, tokenizer)
    return build.build(made, store_directory(settings, made), make, between)


def train_stream(
    settings: config.Config, corpus: Corpus, tokenizer: Tokenizer, batch_size: int, shard: tuple[int, int] = (0, 1)
) -> TrainStream | StoreStream:
    """Return the stream of training batches, at its beginning; nothing is read before the first batch is asked for.

    `shard` = (index, count) is the part of each batch to yield, for one of several hosts. Raises AssetError when
    data.mode=store and there is no store, or one of other data.
    """
    data, seed = settings.data, settings.run.seed
    if data.mode == "store":
        found = _open_store(settings, corpus, tokenizer)
        if not (report := found.report("train")).trained:
            raise AssetError(nothing_to_learn([report]))
        return StoreStream(found, data, seed, batch_size, shard)
    make = window.Builder(
        encoder=_train_encoder(settings, corpus, tokenizer), order=order.make_order(corpus, data.window_bytes, seed)
    )
    fingerprint = {
        **_content(settings, corpus),
        **_validation_content(corpus),
        "tokenizer": tokenizer.digest,
        "run.seed": seed,
        "data.sequence_length": data.sequence_length,
        "data.packing": data.packing,
        "data.isolate_documents": data.isolate_documents,
        "data.window_bytes": data.window_bytes,
    }
    return TrainStream(make, batch_size, fingerprint, shard)


def validation_batches(
    settings: config.Config, corpus: Corpus, tokenizer: Tokenizer, batch_size: int
) -> tuple[list[Batch], Report]:
    """Return eval.num_batches batches of the validation split, fewer when it is smaller, and what was read for them.

    They depend on the data alone, not on run.seed. Raises AssetError when nothing is held out.
    """
    data, num_batches = settings.data, settings.eval.num_batches
    if data.mode == "store":
        return validation.of_store(_open_store(settings, corpus, tokenizer), data, batch_size, num_batches)
    encoder = _validation_encoder(settings, corpus, tokenizer)
    make = window.Builder(
        encoder=encoder, order=order.make_order(encoder.reader.corpus, data.window_bytes, _FIXED_SEED)
    )
    return validation.batches(make, batch_size, num_batches)


def _open_store(settings: config.Config, corpus: Corpus, tokenizer: Tokenizer) -> Store:
    made = store_plan(settings, corpus, tokenizer)
    return store.open_store(store_directory(settings, made), made)


def store_directory(settings: config.Config, made: plan.Plan) -> Path:
    """Return where the store of a plan lies."""
    if settings.data.store:
        return Path(settings.data.store).expanduser()
    return cache.directory("stores") / digest.of_json(made.content)[:16]


def store_plan(settings: config.Config, corpus: Corpus, tokenizer: Tokenizer) -> plan.Plan:
    """Return what the store of these settings is to hold."""
    return plan.make_plan(
        _train_encoder(settings, corpus, tokenizer),
        _validation_encoder(settings, corpus, tokenizer),
        {**_content(settings, corpus), **_validation_content(corpus)},
    )


def _train_encoder(settings: config.Config, corpus: Corpus, tokenizer: Tokenizer) -> Encoder:
    return Encoder(reader=_train_reader(settings, corpus), tokenizer=tokenizer)


def _validation_encoder(settings: config.Config, corpus: Corpus, tokenizer: Tokenizer) -> Encoder:
    source, split = (corpus.validation, "all") if corpus.validation else (corpus, "validation")
    return Encoder(reader=_reader(settings, source, split), tokenizer=tokenizer)


def _validation_content(corpus: Corpus) -> dict[str, Any]:
    return {"validation": corpus.validation.fingerprint if corpus.validation else "a share of the corpus"}


def _train_reader(settings: config.Config, corpus: Corpus) -> Reader:
    return _reader(settings, corpus, "all" if corpus.validation else "train")


def _reader(settings: config.Config, corpus: Corpus, split: str) -> Reader:
    return Reader(corpus=corpus, data=settings.data, redact=settings.safety.enabled, split=split)


def _content(settings: config.Config, corpus: Corpus) -> dict[str, Any]:
    """Return everything that decides which documents are trained on and what they say."""
    data = settings.data
    return {
        "corpus": corpus.fingerprint,
        "safety": engine.default().policy_digest() if settings.safety.enabled else "off",
        "data.validation_fraction": 0.0 if corpus.validation else data.validation_fraction,
        "data.text_field": data.text_field,
        "data.document_bytes": data.document_bytes,
        "data.max_line_bytes": data.max_line_bytes,
    }


def _training_text(settings: config.Config, corpus: Corpus) -> Iterator[str]:
    reader, left, report = _train_reader(settings, corpus), settings.tokenizer.train_bytes, Report()
    places = range(corpus.num_units)
    units = (order.permuted(place, corpus.num_units, ("tokenizer",)) for place in places)
    for pieces in reader.read(units, report):
        text = "".join(piece for piece, learnt in pieces if learnt)
        yield text
        left -= len(text.encode())
        if left <= 0:
            return
    if not report.trained:
        raise AssetError(nothing_to_learn([report]))
