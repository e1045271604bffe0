"""The small run in two processes that meet on loopback: started, watched, and what each of them printed."""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import small_run


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    output: str


class Pair:
    """Two processes of one run. Their output is taken in as it comes, so that none waits for a reader."""

    def __init__(
        self,
        corpus: Path,
        workdir: Path,
        env: Mapping[str, str],
        changes: Mapping[str, Any] | None = None,
        *,
        of_second: Mapping[str, Any] | None = None,
        directories: Sequence[Path | None] = (None, None),
    ) -> None:
        """`of_second` is changed for process 1 alone; `directories` are where the two are started."""
        port = small_run.free_port()
        self.processes, self.lines, self._readers = [], [[], []], []
        for index in range(2):
            given = {
                **(changes or {}),
                "parallel.coordinator": f"localhost:{port}",
                "parallel.num_processes": 2,
                "parallel.process_index": index,
                **(of_second or {} if index else {}),
            }
            args = small_run.arguments(corpus, workdir, given)
            self.processes.append(small_run.start(args, env, directories[index]))
            self._readers.append(threading.Thread(target=self._read, args=(index,)))
            self._readers[-1].start()

    def _read(self, index: int) -> None:
        stdout = self.processes[index].stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                self.lines[index].append(" ".join(line.split()))

    def wait_for(self, beginning: str, index: int = 0) -> None:
        """Return when a process has printed a line that begins so (runs of spaces count as one)."""
        while not any(line.startswith(beginning) for line in self.lines[index]):
            code = self.processes[index].poll()
            if code is not None:
                self._readers[index].join()
                raise AssertionError(f"ended with {code} before it printed {beginning!r}: {self.lines[index]}")
            time.sleep(0.01)

    def end(self, timeout: float = 240) -> list[Ended]:
        """Return how both ended; the test fails if one does not."""
        deadline = time.monotonic() + timeout
        try:
            codes = [process.wait(max(0.1, deadline - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"a process did not end: {self.lines}") from None
        for reader in self._readers:
            reader.join()
        return [Ended(code, "\n".join(lines)) for code, lines in zip(codes, self.lines, strict=True)]

    def finish(self) -> list[str]:
        """Let both run to their end, which must be a good one, and return what they printed."""
        ended = self.end()
        assert [process.code for process in ended] == [0, 0], ended
        return [process.output for process in ended]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
