"""What a copy of the ledger for another tool must be able to do, and what it is told of the run."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from codex_jax import config


WHY_CHARS = 300


@dataclasses.dataclass(frozen=True)
class Source:
    """The run that a sink is a copy of."""

    workdir: Path
    run_id: str
    settings: Mapping[str, Any]
    """the nested config, as a file may hold it; sinks show it beside the curves"""
    tags: Mapping[str, str]
    """what is shown where runs are listed"""
    tracking: config.Tracking
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """bytes of each file of the run, by name, that are history: what was written before the sink was made"""


class Sink(abc.ABC):
    """One copy of the ledger.

    A sink is constructed empty: whatever an earlier process of the same run left is discarded, then the writer replays
    the repaired ledger into it and goes on with live rows. So after a resume it agrees with the ledger, whatever was
    lost or written too much. One thread calls all methods of a sink. Any of them may raise: the sink is then dropped.

    What a tool has no place for, its sink leaves out: all but numbers unless it says otherwise.
    `time` is in seconds since 1970.
    """

    package: ClassVar[str] = ""
    """the one that must be installed for it"""

    @classmethod
    def takes(cls, method: str) -> bool:
        """Return whether it has a place for what a method of that name is given."""
        return getattr(cls, method) is not getattr(Sink, method, None)

    @abc.abstractmethod
    def __init__(self, source: Source) -> None:
        """Make it empty."""

    @classmethod
    def address(cls, tracking: config.Tracking) -> str:
        """Return where it would send the run if that is not this machine, '' if it is; ConfigError for wrong settings.

        Nothing may be imported or asked for it.
        """
        return ""

    @abc.abstractmethod
    def scalars(self, step: int, split: str, values: Mapping[str, float], time: float) -> None:
        """Take one row of metrics; a value that was not finite is nan."""

    def text(self, step: int, name: str, text: str, time: float) -> None:
        """Take one sample of text."""
        return

    def histogram(self, step: int, name: str, edges: Sequence[float], counts: Sequence[int], time: float) -> None:
        """Take a histogram: `counts[i]` values lie between `edges[i]` and `edges[i + 1]`."""
        return

    def figure(self, step: int, name: str, path: Path, time: float) -> None:
        """Take a picture, a PNG file of the run directory."""
        return

    def artifact(self, step: int, name: str, path: Path, time: float) -> None:
        """Take a file of the run directory; one of the same name takes the place of the one before."""
        return

    @abc.abstractmethod
    def flush(self) -> None:
        """Write out what is held back; called when rows stop coming for a moment."""

    @abc.abstractmethod
    def close(self, status: str) -> None:
        """End the copy; `status` is finished, interrupted or failed."""


def why(error: BaseException) -> str:
    """Return in one line what a sink has raised; of a long text its beginning and its end, where the cause is."""
    text = " ".join(str(error).split())
    if len(text) > WHY_CHARS:
        text = f"{text[: WHY_CHARS // 2]} ... {text[-WHY_CHARS // 2 :]}"
    return f"{type(error).__name__}: {text}"
