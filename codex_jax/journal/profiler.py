"""A window of steps seen by JAX's profiler: RUN/profile, for TensorBoard's profile plugin and for Perfetto."""

import contextlib
from pathlib import Path

import jax

from codex_jax import config
from codex_jax.console import warn
from codex_jax.errors import CodexError
from codex_jax.tracking.writer import Writer


class Profiler:
    """Traces tracking.profile_steps steps from tracking.profile_from_step on, and writes an event of it.

    A process that goes on behind the first of them traces what is left of them; one that is behind all, nothing. That
    the profiler fails is told, and ends no run.
    """

    def __init__(self, writer: Writer, workdir: Path, options: config.Tracking, *, is_on: bool) -> None:
        first = options.profile_from_step
        self._steps = range(first, first + options.profile_steps if is_on else first)
        self._writer, self._workdir = writer, workdir
        self._traced: list[int] = []  # while there is a trace

    def step(self, step: int) -> contextlib.AbstractContextManager[object]:
        """Return what marks a step in the trace, which the first of them begins."""
        if step not in self._steps:
            return contextlib.nullcontext()
        if not self._traced:
            try:
                # The link that JAX can make waits for somebody to open it; the file does not.
                jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            except Exception as error:
                self._give_up(step, error)
                return contextlib.nullcontext()
        self._traced.append(step)
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def ends_with(self, step: int) -> bool:
        """Return whether a trace ends with this step, and `close` is to be called."""
        return bool(self._traced) and step + 1 not in self._steps

    def close(self) -> None:
        """End a trace, if there is one, and write it."""
        if not self._traced:
            return
        first, last, self._traced = self._traced[0], self._traced[-1], []
        before = self._files()
        try:
            jax.profiler.stop_trace()
        except Exception as error:
            self._give_up(last, error)
            return
        files = sorted(self._files() - before)
        self._writer.event("profile.saved", last, {"first": first, "last": last, "files": files})

    def leave(self) -> None:
        """End it with the run, which may end by an error that nothing here may take the place of."""
        with contextlib.suppress(CodexError):
            self.close()

    @property
    def _directory(self) -> Path:
        return self._workdir / "profile"

    def _files(self) -> set[str]:
        found = self._directory.rglob("*")
        return {path.relative_to(self._workdir).as_posix() for path in found if path.is_file()}

    def _give_up(self, step: int, error: Exception) -> None:
        self._steps = range(0)
        reason = f"{type(error).__name__}: {error}"
        warn(f"no profile of step {step}: {reason}. Training goes on")
        self._writer.event("profile.failed", step, {"reason": reason})
