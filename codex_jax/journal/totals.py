"""What has been counted since a run began; a checkpoint carries it, so that a resumed run counts on."""

import dataclasses

from codex_jax.journal import accounts


@dataclasses.dataclass(kw_only=True)
class Totals:
    """Counts over all processes of a run, and what is judged by what came before."""

    tokens: int = 0
    """weighted tokens, or texts with a class, that were learnt from"""
    documents: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(accounts.COUNTED, 0))
    safety: dict[str, int] = dataclasses.field(default_factory=dict)
    """findings by action and rule"""
    nonfinite: int = 0
    """updates that were left out because loss or gradient was not finite"""
    skipped_batches: int = 0
    """batches that were passed over after going back from a spike; number n of the data is that of step n less these"""
    losses: list[float] = dataclasses.field(default_factory=list)
    """the newest ones, oldest first, that a spike stands out from"""
    best: float | None = None
    """the best value of checkpoint.best_metric that was evaluated"""
    evaluations_since_best: int = 0
