"""The way from files to batches: what the rest of the program calls.

mixture = open_mixture(config.data, guard)
tokenizer = make_tokenizer(config, mixture)
made = make_stores(config, mixture, tokenizer)
stream = train_stream(config, mixture, tokenizer, batch_size, made=made)
batches, report = validation_batches(config, mixture, tokenizer, batch_size, made=made)
batches = whole_split(config, mixture, tokenizer, batch_size, "test")
"""

import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from codex_jax import config
from codex_jax.data import layout as layouts
from codex_jax.data import mixture, order, parting, sources, stores, validation, whole
from codex_jax.data.batch import Batch
from codex_jax.data.corpus import Corpus
from codex_jax.data.encoding import Encoder
from codex_jax.data.mixture import Chosen, Mixture, open_mixture
from codex_jax.data.order import Order, Size
from codex_jax.data.report import Quarantine, Report
from codex_jax.data.store import Store
from codex_jax.data.store_stream import StoreStream
from codex_jax.data.stream import TrainStream, nothing_to_learn
from codex_jax.data.whole import Whole
from codex_jax.data.window import Builder
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import loading, training
from codex_jax.tokenizers.tokenizer import Tokenizer


__all__ = [
    "Mixture",
    "Stream",
    "data_seed",
    "make_stores",
    "make_tokenizer",
    "open_mixture",
    "train_stream",
    "train_tokenizer",
    "validation_batches",
    "whole_split",
]

Stream = TrainStream | StoreStream
# Not the run's seed: another seed trains on the same tokens and is judged by the same text.
_FIXED_SEED = 0
# How finely the sources alternate in the text a tokenizer is trained on.
_TEXT_WINDOW_BYTES = 65_536


def make_tokenizer(settings: config.Config, parts: Mixture) -> Tokenizer:
    """Load the tokenizer that the settings name, or train one. Raises AssetError."""
    return loading.given(settings.tokenizer) or train_tokenizer(settings, parts)


def train_tokenizer(settings: config.Config, parts: Mixture) -> Tokenizer:
    """Train a tokenizer on tokenizer.train_bytes of the training split, redacted and shuffled.

    It is kept in the cache and found again for the same corpora and settings. Raises AssetError.
    """
    options = settings.tokenizer
    units = {part.name: sources.SOURCES.get(part.corpus.source).unit_bytes(part.data) for part in parts}
    return training.cached(
        lambda: _training_text(settings, parts),
        options.vocab_size,
        {**_content(parts), "unit_bytes": units, "train_bytes": options.train_bytes},
        kind=options.kind or "hf",
        algorithm=options.algorithm,
    )


def make_stores(
    settings: config.Config, parts: Mixture, tokenizer: Tokenizer, between: Callable[[], None] = lambda: None
) -> list[Store]:
    """Return the stores of data.mode=store, made now where they are missing; none where data are streamed.

    `between` is called several times a second while they are made, and may raise to stop.
    """
    return stores.make(settings, parts, tokenizer, between) if settings.data.mode == "store" else []


def train_stream(
    settings: config.Config,
    parts: Mixture,
    tokenizer: Tokenizer,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    made: Sequence[Store] = (),
) -> Stream:
    """Return the stream of training batches, at its beginning; nothing is read before the first batch is asked for.

    `shard` = (index, count) is the part of each batch to yield, for one of several hosts; `made` are the stores, which
    are looked for where they are not given. Raises AssetError when there is none, or one of other data.
    """
    data, seed = settings.data, data_seed(settings)
    if data.mode == "store":
        return stores.train_stream(settings, parts, tokenizer, batch_size, shard, seed, made)
    build = _builder(settings, [mixture.for_training(part) for part in parts], tokenizer, seed)
    fingerprint = {
        **_content(parts),
        **layouts.for_training(data, tokenizer).content(),
        "tokenizer": tokenizer.digest,
        "data.seed": seed,
        "data.sequence_length": data.sequence_length,
        "data.packing": data.packing,
        "data.isolate_documents": data.isolate_documents,
        "data.window_bytes": data.window_bytes,
        **parting.content(data),
        **{f"{part.key}.order": "files, each read forwards" for part in parts if part.corpus.in_order},
    }
    return TrainStream(build, batch_size, parts[0].gate.named(fingerprint), shard)


def validation_batches(
    settings: config.Config, parts: Mixture, tokenizer: Tokenizer, batch_size: int, made: Sequence[Store] = ()
) -> tuple[list[Batch], Report]:
    """Return eval.num_batches batches of the validation split, fewer when it is smaller, and what was read for them.

    They depend on the data alone, not on any seed. Raises AssetError when nothing is held out.
    """
    if settings.data.mode == "store":
        return stores.validation_batches(settings, parts, tokenizer, batch_size, _FIXED_SEED, made)
    build = _builder(settings, [mixture.for_validation(part) for part in parts], tokenizer, _FIXED_SEED)
    return validation.batches(build, batch_size, settings.eval.num_batches)


def whole_split(settings: config.Config, parts: Mixture, tokenizer: Tokenizer, batch_size: int, split: str) -> Whole:
    """Return every document of the validation or the test split, once, whatever the weights of a mixture.

    A store has no test split: that is read from the sources. Raises ConfigError when nothing was kept for a test.
    """
    if split == "test" and not settings.data.test_fraction:
        raise ConfigError("data.test_fraction=0: the run kept no documents for a test; evaluate its validation split")
    if split == "validation" and settings.data.mode == "store":
        return stores.whole_validation(settings, parts, tokenizer, batch_size)
    choose = mixture.for_validation if split == "validation" else mixture.for_test
    once = [choose(part._replace(weight=Fraction(0))) for part in parts]
    return whole.of_sources(_builder(settings, once, tokenizer, _FIXED_SEED), batch_size)


def data_seed(settings: config.Config) -> int:
    """Return the seed of the order of the data; ConfigError when the variable holds none."""
    given = os.environ.get("CODEX_DATA_SEED", "") if settings.data.seed < 0 else str(settings.data.seed)
    if not given:
        return settings.run.seed
    if not given.isdecimal():
        raise ConfigError(f"the variable CODEX_DATA_SEED={given!r} is not a seed: set it to 0, 1, 2 ... or unset it")
    return int(given)


def _builder(settings: config.Config, chosen: Sequence[Chosen], tokenizer: Tokenizer, seed: int) -> Builder:
    """Return what makes windows of the chosen splits."""
    layout = layouts.for_training(settings.data, tokenizer)
    readers = [mixture.reader(settings, one, layout) for one in chosen]
    return Builder(
        encoders=tuple(Encoder(reader=reader, tokenizer=tokenizer) for reader in readers),
        order=_order(chosen, settings.data.window_bytes, seed),
        data=settings.data,
    )


def _order(chosen: Sequence[Chosen], window_bytes: int, seed: int) -> Order:
    return order.make_order([_size(part.corpus, part.weight) for part, _ in chosen], window_bytes, seed)


def _size(corpus: Corpus, weight: Fraction) -> Size:
    num_bytes = corpus.num_bytes
    return Size(corpus.num_units, num_bytes, weight or Fraction(num_bytes), corpus.ends_F if corpus.in_order else None)


def _content(parts: Mixture) -> dict[str, Any]:
    """Return everything that decides which documents are trained on, what they say, and how they mix."""
    return {
        f"{part.key}.{name}": value
        for part in parts
        for name, value in {**mixture.content(part), "weight": str(part.weight)}.items()
    }


def _training_text(settings: config.Config, parts: Mixture) -> Iterator[str]:
    """Yield documents of all sources in their shares, in an order that data.window_bytes does not touch."""
    chosen = [mixture.for_training(part) for part in parts]
    left, report = settings.tokenizer.train_bytes, Report()
    readers = [mixture.reader(settings, one, layouts.contents) for one in chosen]
    dealt = _order(chosen, _TEXT_WINDOW_BYTES, _FIXED_SEED)
    for number in range(dealt.num_windows):
        for reader, units in zip(readers, dealt.units(number), strict=True):
            for pieces in reader.read(units, report):
                text = "".join(piece.text for piece in pieces if piece.learnt)
                yield text
                left -= len(text.encode())
                if left <= 0:
                    return
    if not report.trained:
        Quarantine(settings.data.max_quarantined).check([report], complete=True)  # which shows what is wrong with rows
        raise AssetError(nothing_to_learn([report]))
