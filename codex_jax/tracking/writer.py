"""What a run reports to: the interface, and the one that forgets, for processes whose run another writes down."""

import abc
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from codex_jax.errors import Interrupted
from codex_jax.tracking.chain import Head


log = logging.getLogger(__name__)


class Writer(abc.ABC):
    """Takes what a run has to say; every method but `close` returns without waiting for a copy.

    Leaving the `with` block by an exception closes it with status "failed" ("interrupted" for Interrupted), and the
    exception goes on unchanged. All rows of step N must be written before the save of checkpoint N begins.
    """

    @abc.abstractmethod
    def scalars(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Record plain numbers of one step and split, for example split "train" with "loss" and "grad_norm"."""

    @abc.abstractmethod
    def beside(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Pass numbers to the copies that are no part of the ledger, since they depend on the time; from any thread."""

    @abc.abstractmethod
    def text(self, step: int, name: str, text: str) -> None:
        """Record generated text."""

    @abc.abstractmethod
    def histogram(self, step: int, name: str, edges: Sequence[float], counts: Sequence[int]) -> None:
        """Record a histogram: `counts[i]` values lie between `edges[i]` and `edges[i + 1]`, which rise.

        Raises ValueError when the edges are not one more than the counts, or not finite.
        """

    @abc.abstractmethod
    def figure(self, step: int, name: str, path: Path) -> None:
        """Record a picture, a PNG file below the run directory that will not change any more."""

    @abc.abstractmethod
    def artifact(self, step: int, name: str, path: Path) -> None:
        """Record a file below the run directory; one of the same name takes the place of the one before."""

    @abc.abstractmethod
    def report(self, step: int) -> None:
        """Pass report.html to the copies; it is made from the ledger, and so no part of it."""

    @abc.abstractmethod
    def event(self, name: str, step: int, fields: Mapping[str, Any]) -> None:
        """Record something that happened; it is kept in the ledger only. Any thread may call it."""

    @abc.abstractmethod
    def head(self) -> Head:
        """Return the head of the events written so far; a checkpoint keeps it."""

    @abc.abstractmethod
    def sync(self) -> Head:
        """Return the head of the events when the ledger up to it is safe on disk; any thread may call it."""

    @abc.abstractmethod
    def close(self, status: str) -> None:
        """Let the copies finish within a bounded time, then close the ledger; a second call does nothing."""

    @property
    @abc.abstractmethod
    def shows_figures(self) -> bool:
        """Whether a copy is made that has a place for figures; else none needs to be drawn."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return self.close("finished")
        try:
            self.close("interrupted" if isinstance(error, Interrupted) else "failed")
        except Exception as second:  # the first error is the one to show
            log.warning("while closing the ledger: %s", second)
        return None


class Nowhere(Writer):
    """What a process reports to whose run is written down by another."""

    def scalars(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Forget it."""

    def beside(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Forget it."""

    def text(self, step: int, name: str, text: str) -> None:
        """Forget it."""

    def histogram(self, step: int, name: str, edges: Sequence[float], counts: Sequence[int]) -> None:
        """Forget it."""

    def figure(self, step: int, name: str, path: Path) -> None:
        """Forget it."""

    def artifact(self, step: int, name: str, path: Path) -> None:
        """Forget it."""

    def report(self, step: int) -> None:
        """Forget it."""

    def event(self, name: str, step: int, fields: Mapping[str, Any]) -> None:
        """Forget it."""

    def head(self) -> Head:
        """Return the head of no events."""
        return Head()

    def sync(self) -> Head:
        """Return the head of no events."""
        return Head()

    def close(self, status: str) -> None:
        """Return at once."""

    @property
    def shows_figures(self) -> bool:
        """Return that no copy is made."""
        return False
