"""What a run learns from and is measured with: mixture, tokenizer, the stream of batches, validation."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from codex_jax import sharding
from codex_jax.changes import Change
from codex_jax.data import pipeline
from codex_jax.data.batch import Batch
from codex_jax.data.mixture import Mixture
from codex_jax.data.pipeline import Stream
from codex_jax.data.report import Report
from codex_jax.hosts import alike
from codex_jax.journal import dossier
from codex_jax.run import standing
from codex_jax.run.standing import Run
from codex_jax.tokenizers import loading
from codex_jax.tokenizers.tokenizer import Tokenizer
from codex_jax.training import beginning


class Materials(NamedTuple):
    """Opened and compared with the checkpoint; the stream is at its beginning."""

    mixture: Mixture
    tokenizer: Tokenizer
    stream: Stream
    validation: Sequence[Batch]
    held_out: Report
    """what was read for it"""
    moved: dict[str, Change]
    """in what the data are not those of the checkpoint, and may"""


@contextlib.contextmanager
def open_materials(run: Run) -> Iterator[Materials]:
    """Open the data of a run, of several processes all the same; a tokenizer and stores are made where none are."""
    settings, site = run.settings, run.site
    num_rows, between = settings.train.global_batch_size, site.between
    given = loading.given(settings.tokenizer)  # before the data: what is wrong with it is known at once
    between()
    mixture = pipeline.open_mixture(settings.data, run.guard)
    tokenizer = given or pipeline.train_tokenizer(settings, mixture)
    dossier.name_tokenizer(settings.tokenizer, tokenizer)
    beginning.check_vocabulary(settings.model.vocab_size, tokenizer.vocab_size)

    between()
    made = site.team.after_the_first(lambda: pipeline.make_stores(settings, mixture, tokenizer, between), between)
    part = sharding.part_of_batch(site.mesh)
    with contextlib.closing(pipeline.train_stream(settings, mixture, tokenizer, num_rows, part, made)) as stream:
        alike.check_data(site.team, stream.fingerprint, tokenizer.digest)
        moved = standing.moved(run, stream.fingerprint)
        between()
        validation, held_out = pipeline.validation_batches(settings, mixture, tokenizer, num_rows, made)
        yield Materials(mixture, tokenizer, stream, validation, held_out, moved)
