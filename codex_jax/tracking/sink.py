"""What a copy of the ledger for another tool must be able to do."""

import abc
from collections.abc import Mapping


class Sink(abc.ABC):
    """One copy of the ledger.

    A sink is constructed empty: whatever an earlier process of the same run left is discarded, then the writer replays
    the repaired ledger into it and goes on with live rows. So after a resume it agrees with the ledger, whatever was
    lost or written too much. One thread calls all methods of a sink. Any of them may raise: the sink is then dropped.
    """

    @abc.abstractmethod
    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Take one row of metrics; a value that was not finite is nan. `time` is in seconds since 1970."""

    @abc.abstractmethod
    def text(self, step: int, name: str, text: str, time: float) -> None:
        """Take one sample of text."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Write out what is held back; called when rows stop coming for a moment."""

    @abc.abstractmethod
    def close(self, status: str) -> None:
        """End the copy; `status` is finished, interrupted or failed."""
