"""The stores of a mixture, one for each source: where they are, what they are to hold, and what they yield."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from codex_jax import cache, config, digest
from codex_jax.data import build, mixture, parting, plan, store, validation, whole
from codex_jax.data import layout as layouts
from codex_jax.data.batch import Batch
from codex_jax.data.blend import Blend
from codex_jax.data.encoding import Encoder
from codex_jax.data.mixture import Mixture, Part
from codex_jax.data.plan import Plan
from codex_jax.data.report import Report
from codex_jax.data.store import Store
from codex_jax.data.store_stream import StoreStream
from codex_jax.data.stream import nothing_to_learn
from codex_jax.data.whole import Whole
from codex_jax.errors import AssetError
from codex_jax.tokenizers.tokenizer import Tokenizer


def plan_of(settings: config.Config, part: Part, tokenizer: Tokenizer) -> Plan:
    """Return what the store of a source is to hold; its weight is a matter of reading."""
    layout = layouts.for_training(settings.data, tokenizer)
    chosen = (mixture.for_training(part), mixture.for_validation(part))
    readers = [mixture.reader(settings, one, layout) for one in chosen]
    train, held_out = (
        Encoder(reader=dataclasses.replace(reader, gate=reader.gate.unkeyed()), tokenizer=tokenizer)
        for reader in readers
    )
    content = {**mixture.content(part), **layout.content(), **_before(settings, tokenizer)}
    return plan.make_plan(train, held_out, part.gate.named(content))


def _before(settings: config.Config, tokenizer: Tokenizer) -> dict[str, int]:
    """Return which token is put before each document, nothing where there is none."""
    begin = parting.begin(settings.data, tokenizer)
    return {} if begin is None else {"begin token": begin}


def directory_of(settings: config.Config, part: Part, made: Plan) -> Path:
    """Return where the store of a source lies."""
    if not settings.data.store:
        return cache.directory("stores") / digest.of_json(made.content)[:16]
    given = Path(settings.data.store).expanduser()
    return given / part.name if settings.data.mix else given


def make(
    settings: config.Config, parts: Mixture, tokenizer: Tokenizer, between: Callable[[], None] = lambda: None
) -> list[Store]:
    """Return the stores of these settings, made now where they are missing, by data.workers processes.

    `between` is called several times a second and may raise to stop. Errors are those of `build.build`.
    """
    data = settings.data
    work = functools.partial(build.in_processes, workers=data.workers, between=between, wait_secs=data.max_wait_secs)
    plans = [(part, plan_of(settings, part, tokenizer)) for part in parts]
    return [build.build(made, directory_of(settings, part, made), work, between) for part, made in plans]


def train_stream(
    settings: config.Config,
    parts: Mixture,
    tokenizer: Tokenizer,
    batch_size: int,
    shard: tuple[int, int],
    seed: int,
    made: Sequence[Store],
) -> StoreStream:
    """Return the stream of training batches; AssetError when a store is missing, or one of other data.

    `made` are the stores where they have just been made or opened, else nothing.
    """
    found = made or _found(settings, parts, tokenizer)
    blend = _blend(settings, parts, found, "train", seed)
    for count, report in zip(blend.counts, blend.reports, strict=True):
        if not count:
            raise AssetError(nothing_to_learn([report]))
    data = settings.data
    fingerprint: dict[str, Any] = {
        "data.seed": seed,
        "data.sequence_length": data.sequence_length,
        "data.packing": data.packing,
        "data.isolate_documents": data.isolate_documents,
        **parting.content(data),
    }
    for part, one in zip(parts, found, strict=True):
        fingerprint[f"{part.key}.weight"] = str(part.weight)
        held = {**one.content, "tokens": one.tokens}
        fingerprint |= {f"{part.key}.{name}": value for name, value in held.items()}
    return StoreStream(blend, parting.parting(data, tokenizer), batch_size, shard, fingerprint)


def validation_batches(
    settings: config.Config, parts: Mixture, tokenizer: Tokenizer, batch_size: int, seed: int, made: Sequence[Store]
) -> tuple[list[Batch], Report]:
    """Return the batches to validate on, and what was read for them; `made` as in `train_stream`."""
    blend = _blend(settings, parts, made or _found(settings, parts, tokenizer), "validation", seed)
    return validation.of_stores(
        blend, settings.data, parting.parting(settings.data, tokenizer), batch_size, settings.eval.num_batches
    )


def whole_validation(settings: config.Config, parts: Mixture, tokenizer: Tokenizer, batch_size: int) -> Whole:
    """Return every row of the stores' validation splits."""
    blend = _blend(settings, parts, _found(settings, parts, tokenizer), "validation", 0)
    return whole.of_stores(blend, parting.parting(settings.data, tokenizer), batch_size)


def _found(settings: config.Config, parts: Mixture, tokenizer: Tokenizer) -> list[Store]:
    plans = [(part, plan_of(settings, part, tokenizer)) for part in parts]
    return [store.open_store(directory_of(settings, part, made), made) for part, made in plans]


def _blend(settings: config.Config, parts: Mixture, found: Sequence[Store], split: str, seed: int) -> Blend:
    # A weight is a share of the bytes of the files, as in a stream: of a file with more of them a row counts less.
    weights = [part.weight / part.corpus.num_bytes for part in parts]
    return Blend(found, weights, split, settings.data, seed)
