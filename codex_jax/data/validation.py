"""The validation set: the same few batches in every evaluation, whatever the seed."""

from codex_jax import config
from codex_jax.data import packing
from codex_jax.data.batch import Batch, Rows
from codex_jax.data.blend import Blend
from codex_jax.data.parting import Parting
from codex_jax.data.report import Quarantine, Report
from codex_jax.data.window import Builder
from codex_jax.errors import AssetError


def batches(build: Builder, batch_size: int, num_batches: int) -> tuple[list[Batch], Report]:
    """Return up to `num_batches` batches and what was read for them; the last one is filled up with padding.

    Raises AssetError when no document is held out, TrainingStopped when too many could not be read.
    """
    report, parts, missing = Report(), [], batch_size * num_batches
    windows = build.order.num_windows
    for number in range(windows):
        window = build(number)
        report.add(window.report)
        rows = packing.take(window.rows, slice(missing))
        parts.append(rows)
        missing -= len(rows.tokens_BM)
        if not missing:
            break
    rows = packing.join(parts)
    count = len(rows.tokens_BM)
    # A share of the corpus is judged by the training stream, which reads the same rows and has a ledger to name them.
    shares = [encoder.reader.split != "all" for encoder in build.encoders]
    if not all(shares) or not count:
        Quarantine(build.data.max_quarantined).check([report], complete=number == windows - 1)
    if not count:
        raise AssetError(nothing_held_out(build.data, report))
    return cut(rows, batch_size, build.part), report


def of_stores(
    blend: Blend, data: config.Data, part: Parting, batch_size: int, num_batches: int
) -> tuple[list[Batch], Report]:
    """Return up to `num_batches` batches of the stores' validation splits, drawn from all over them, and the counts."""
    rows, report = blend.first(batch_size * num_batches), blend.report()
    if not len(rows.tokens_BM):
        raise AssetError(nothing_held_out(data, report))
    return cut(rows, batch_size, part), report


def cut(rows: Rows, batch_size: int, part: Parting) -> list[Batch]:
    """Return rows as batches, the last one filled up with padding."""
    rows = packing.padded(rows, -(-len(rows.tokens_BM) // batch_size) * batch_size)
    cuts = range(0, len(rows.tokens_BM), batch_size)
    return [part(packing.take(rows, slice(at, at + batch_size))) for at in cuts]


def nothing_held_out(data: config.Data, report: Report) -> str:
    """Say why there is nothing to validate on."""
    named = [*data.validation_paths, *(path for source in data.mix.values() for path in source.validation_paths)]
    if named:
        return f"validation_paths={','.join(named)} hold no document of the {report.read} read; name others"
    return (
        f"data.validation_fraction={data.validation_fraction} holds out none of {report.read} documents; "
        "name files in data.validation_paths, or make the documents smaller and more with data.document_bytes"
    )
