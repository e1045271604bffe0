"""The way from files to batches: what the rest of the program calls.

mixture = open_mixture(config.data)
tokenizer = make_tokenizer(config, mixture)
stream = train_stream(config, mixture, tokenizer, batch_size)
batches, report = validation_batches(config, mixture, tokenizer, batch_size)
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from codex_jax import config
from codex_jax.data import order, sources, validation
from codex_jax.data.batch import Batch
from codex_jax.data.encoding import Encoder
from codex_jax.data.mixture import Mixture, Part, open_mixture
from codex_jax.data.order import Order, Size
from codex_jax.data.reader import Reader
from codex_jax.data.report import Report
from codex_jax.data.stream import TrainStream, nothing_to_learn
from codex_jax.data.window import Builder
from codex_jax.errors import AssetError
from codex_jax.safety import engine
from codex_jax.tokenizers import loading, training
from codex_jax.tokenizers.tokenizer import Tokenizer


__all__ = [
    "Mixture",
    "TrainStream",
    "make_tokenizer",
    "open_mixture",
    "train_stream",
    "train_tokenizer",
    "validation_batches",
]

# Not the run's seed: another seed trains on the same tokens and is judged by the same text.
_FIXED_SEED = 0
# How finely the sources alternate in the text a tokenizer is trained on.
_TEXT_WINDOW_BYTES = 65_536

# A source, and which split of it.
Chosen = tuple[Part, str]


def make_tokenizer(settings: config.Config, mixture: Mixture) -> Tokenizer:
    """Load the tokenizer that the settings name, or train one. Raises AssetError."""
    return loading.given(settings.tokenizer) or train_tokenizer(settings, mixture)


def train_tokenizer(settings: config.Config, mixture: Mixture) -> Tokenizer:
    """Train a tokenizer on tokenizer.train_bytes of the training split, redacted and shuffled.

    It is kept in the cache and found again for the same corpora and settings. Raises AssetError.
    """
    options = settings.tokenizer
    units = {part.name: sources.SOURCES.get(part.corpus.source).unit_bytes(part.data) for part in mixture}
    return training.cached(
        lambda: _training_text(settings, mixture),
        options.vocab_size,
        {**_content(settings, mixture), "unit_bytes": units, "train_bytes": options.train_bytes},
        kind=options.kind or "hf",
        algorithm=options.algorithm,
    )


def train_stream(settings: config.Config, mixture: Mixture, tokenizer: Tokenizer, batch_size: int) -> TrainStream:
    """Return the stream of training batches, at its beginning; nothing is read before the first batch is asked for."""
    data, seed = settings.data, settings.run.seed
    build = _builder(settings, [_for_training(part) for part in mixture], tokenizer, seed)
    separate = {part.name: part.corpus.validation.fingerprint for part in mixture if part.corpus.validation}
    fingerprint = {
        **_content(settings, mixture),
        "validation": separate or "a share of the corpus",
        "tokenizer": tokenizer.digest,
        "run.seed": seed,
        "data.sequence_length": data.sequence_length,
        "data.isolate_documents": data.isolate_documents,
        "data.window_bytes": data.window_bytes,
    }
    return TrainStream(build, batch_size, fingerprint)


def validation_batches(
    settings: config.Config, mixture: Mixture, tokenizer: Tokenizer, batch_size: int
) -> tuple[list[Batch], Report]:
    """Return eval.num_batches batches of the validation split, fewer when it is smaller, and what was read for them.

    They depend on the data alone, not on run.seed. Raises AssetError when nothing is held out.
    """
    build = _builder(settings, [_for_validation(part) for part in mixture], tokenizer, _FIXED_SEED)
    return validation.batches(build, batch_size, settings.eval.num_batches)


def _for_training(part: Part) -> Chosen:
    return part, "all" if part.corpus.validation else "train"


def _for_validation(part: Part) -> Chosen:
    separate = part.corpus.validation
    return (part._replace(corpus=separate), "all") if separate else (part, "validation")


def _builder(settings: config.Config, chosen: Sequence[Chosen], tokenizer: Tokenizer, seed: int) -> Builder:
    """Return what makes windows of the chosen splits."""
    return Builder(
        encoders=tuple(Encoder(reader=reader, tokenizer=tokenizer) for reader in _readers(settings, chosen)),
        order=_order(chosen, settings.data.window_bytes, seed),
        data=settings.data,
    )


def _readers(settings: config.Config, chosen: Sequence[Chosen]) -> list[Reader]:
    redact = settings.safety.enabled
    return [Reader(corpus=part.corpus, data=part.data, redact=redact, split=split) for part, split in chosen]


def _order(chosen: Sequence[Chosen], window_bytes: int, seed: int) -> Order:
    sizes = [
        Size(part.corpus.num_units, part.corpus.num_bytes, part.weight or Fraction(part.corpus.num_bytes))
        for part, _ in chosen
    ]
    return order.make_order(sizes, window_bytes, seed)


def _content(settings: config.Config, mixture: Mixture) -> dict[str, Any]:
    """Return everything that decides which documents are trained on and what they say."""
    return {
        "safety": engine.default().policy_digest() if settings.safety.enabled else "off",
        **{f"{part.key}.{name}": value for part in mixture for name, value in _content_of(part).items()},
    }


def _content_of(part: Part) -> dict[str, Any]:
    data = part.data
    return {
        "corpus": part.corpus.fingerprint,
        "weight": str(part.weight),
        "validation_fraction": 0.0 if part.corpus.validation else data.validation_fraction,
        "text_field": data.text_field,
        "document_bytes": data.document_bytes,
        "max_line_bytes": data.max_line_bytes,
    }


def _training_text(settings: config.Config, mixture: Mixture) -> Iterator[str]:
    """Yield documents of all sources in their shares, in an order that data.window_bytes does not touch."""
    chosen = [_for_training(part) for part in mixture]
    left, report = settings.tokenizer.train_bytes, Report()
    readers, dealt = _readers(settings, chosen), _order(chosen, _TEXT_WINDOW_BYTES, _FIXED_SEED)
    for number in range(dealt.num_windows):
        for reader, units in zip(readers, dealt.units(number), strict=True):
            for pieces in reader.read(units, report):
                text = "".join(piece for piece, learnt in pieces if learnt)
                yield text
                left -= len(text.encode())
                if left <= 0:
                    return
    if not report.trained:
        raise AssetError(nothing_to_learn([report]))
