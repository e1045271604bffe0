"""The validation set: the same few batches in every evaluation, whatever the seed."""

from codex_jax.data import packing
from codex_jax.data.batch import Batch
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
        raise AssetError(_nothing_held_out(build, report))
    rows = packing.padded(rows, -(-count // batch_size) * batch_size)
    isolate = build.data.isolate_documents
    cuts = range(0, len(rows.tokens_BM), batch_size)
    return [packing.to_batch(packing.take(rows, slice(at, at + batch_size)), isolate=isolate) for at in cuts], report


def _nothing_held_out(build: Builder, report: Report) -> str:
    if all(encoder.reader.split == "all" for encoder in build.encoders):
        return f"the files of validation_paths hold no document of the {report.read} read; name others"
    return (
        f"data.validation_fraction={build.data.validation_fraction} holds out none of {report.read} documents; "
        "raise it, lower data.document_bytes, or name data.validation_paths"
    )
