"""A batch as a person reads it: the text of each document in a row, and which of it is learnt.

    row 0
      document 1, positions 0 to 45
        the quick brown fox {[REDACTED:email]} jumps<|endoftext|>

Learnt text is green; what is only read stands in braces, yellow; padding is grey.
"""

import itertools
from collections.abc import Iterator

import click
import numpy as np

from codex_jax import amounts, config
from codex_jax.data.batch import Batch
from codex_jax.tokenizers.tokenizer import Tokenizer


def summary(batch: Batch) -> str:
    """Return the counts of a batch."""
    padding, learnt = int((batch.segments_BL == 0).sum()), int(batch.weights_BL.sum())
    rows, length = batch.tokens_BL.shape
    return (
        f"{amounts.counted(rows, 'row')} of {length} tokens, {batch.tokens_BL.size - padding:,} read, "
        f"{learnt:,} learnt, {padding:,} padding"
    )


def lines(batch: Batch, tokenizer: Tokenizer, data: config.Data, *, coloured: bool) -> Iterator[str]:
    """Yield the lines of all rows; without colours the braces tell the same. Of classes each row is of one."""
    classed = data.objective == "classes"
    for row in range(len(batch.tokens_BL)):
        yield f"row {row}" + (f", {data.labels[batch.targets_BL[row, 0]]}" if classed else "")
        tokens_L, segments_L, positions_L = (
            array[row] for array in (batch.tokens_BL, batch.segments_BL, batch.positions_BL)
        )
        learnt_L = (segments_L > 0) if classed else batch.weights_BL[row] > 0
        if data.objective == "causal":  # a weight is of the token that follows: the first of a row is no target
            learnt_L = np.concatenate([[False], learnt_L[:-1]])
        for number, places in itertools.groupby(range(tokens_L.size), key=segments_L.__getitem__):
            part_T = np.array(list(places))
            if not number:
                yield _styled(f"  padding, {amounts.counted(part_T.size, 'token')}", "bright_black", coloured)
                continue
            yield f"  document {number}, positions {positions_L[part_T[0]]} to {positions_L[part_T[-1]]}"
            text = "".join(_runs(tokens_L[part_T], learnt_L[part_T], tokenizer, coloured))
            yield "    " + text.replace("\n", "\n    ")


def _runs(tokens_T: np.ndarray, learnt_T: np.ndarray, tokenizer: Tokenizer, coloured: bool) -> Iterator[str]:
    for learnt, places in itertools.groupby(range(tokens_T.size), key=learnt_T.__getitem__):
        text = tokenizer.decode(tokens_T[list(places)].tolist())
        yield _styled(text, "green", coloured) if learnt else _styled("{" + text + "}", "yellow", coloured)


def _styled(text: str, colour: str, coloured: bool) -> str:
    return click.style(text, fg=colour) if coloured else text
