"""Why a step is saved: its number, the end, a signal, a best evaluation, time that has passed, or a user's wish.

touch RUN/SAVE      saves after the step that is running; the file goes when the checkpoint is on the disk
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from codex_jax import config
from codex_jax.checkpoint import retention


ASK_FILE = "SAVE"
REQUESTS = ("", "time", "asked")
"""what only the first process knows of; the others are told a number, the place in this list"""
_LOOK_EVERY_SECS = 0.5  # for the file: the directory may be on a network

Decide = Callable[[Callable[[], bool]], bool]


class Occasions:
    """Says which steps to save; `decide` makes of what the first process finds on its disk what all processes do."""

    def __init__(self, workdir: Path, root: Path, settings: config.Checkpoint, decide: Decide) -> None:
        self._ask_file, self._root, self._settings, self._decide = workdir / ASK_FILE, root, settings, decide
        self._saved = self._looked = time.monotonic()
        self._is_asked = False  # and not yet answered by a checkpoint on the disk
        self._answer: int | None = None

    def request(self) -> int:
        """Return the place in `REQUESTS` of what is asked for now. Each wish is told once, and then must be granted."""
        now = time.monotonic()
        if not self._is_asked and now - self._looked >= _LOOK_EVERY_SECS:
            self._looked, self._is_asked = now, os.path.lexists(self._ask_file)
            if self._is_asked:
                return REQUESTS.index("asked")
        if self._settings.every_minutes and now - self._saved >= 60 * self._settings.every_minutes:
            self._saved = now
            return REQUESTS.index("time")
        return 0

    def why(
        self, step: int, evaluation: Mapping[str, float | None] | None, request: int, *, ends: bool, stops: bool
    ) -> str:
        """Return why step `step` is saved, '' when it is not; `request` is what all processes know to be asked for."""
        asked = REQUESTS[request]
        if asked == "asked":
            self._answer = step
        reasons = {
            "end": ends,
            "signal": stops,
            "steps": step % self._settings.every_steps == 0,
            "best": evaluation is not None and self._is_among_the_best(evaluation),
            asked: request > 0,
        }
        why = next((reason for reason, holds in reasons.items() if holds), "")
        if why:
            self._saved = time.monotonic()
        return why

    def acknowledge(self, step: int) -> None:
        """Take note that the checkpoint of a step is on the disk."""
        if self._answer is not None and step >= self._answer:
            with contextlib.suppress(FileNotFoundError):
                self._ask_file.unlink()
            self._is_asked, self._answer = False, None

    def _is_among_the_best(self, evaluation: Mapping[str, float | None]) -> bool:
        rules = retention.rules(self._settings)
        value = evaluation[rules.best_metric]
        return bool(rules.keep_best) and self._decide(lambda: retention.would_be_best(self._root, rules, value))
