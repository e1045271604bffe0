"""The processes of a run as one: the first decides and writes, all hear it; when one fails, all end and say why."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from codex_jax import console, exits, schema
from codex_jax.errors import CodexError
from codex_jax.hosts.desk import Ears, Failure, Link


T = TypeVar("T")

# After another process is gone. Long enough to write down why; what waits for that process waits in vain.
LEAVE_SECS = 15.0
# After this process failed: a save of all processes that is under way is finished first.
CLOSE_SECS = 300.0
# A collective fails a moment before the reason for it arrives.
NEWS_SECS = 5.0
_ASK_EVERY_SECS = 0.1
# In the time after which silence is a failure.
_BEATS = 10
_SHOWN = 10


class Team:
    """This process, `index` of `count`, and its links to others: the first has one to each, the others one to it.

    All methods but `guard` and `raise_if_failed` are called by every process at the same place. Each raises the error
    of the process that failed, with its exit code. Of one process all of them return at once.
    """

    def __init__(
        self,
        index: int = 0,
        count: int = 1,
        links: Mapping[int, Link] | None = None,
        *,
        end: Callable[[float, Failure], None] | None = None,
        silence_secs: float = 0.0,
    ) -> None:
        """`end(secs, failure)` ends the process after so many seconds, whatever it waits for.

        A process that says nothing for `silence_secs` has failed; 0: never.
        """
        self.index, self.count = index, count
        self.asked = ""
        """the signal to another process that asks all to stop"""
        self.tell: Callable[[str], None] = lambda message: None
        """writes down why this process ends while it waits in vain; it is given a few seconds"""
        self._end = end or self._end_after
        self._failure: Failure | None = None
        self._news = threading.Event()
        self._lock = threading.Lock()
        self._over = False
        self._links = dict(links or {})
        for link in self._links.values():  # at last: what it hears may be passed on to all
            link.listen(Ears(self._note, self._stop_asked, self._left), silence_secs)
        if silence_secs and links:
            threading.Thread(target=self._beat, args=(silence_secs / _BEATS,), daemon=True).start()

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes and talks."""
        return self.index == 0

    def decide(self, make: Callable[[], T]) -> T:
        """Return what the first process makes; it must be JSON. The others do not call `make`."""
        if not self.is_first:
            heard: T = self._hear(0)
            return heard
        value = make()
        self._tell(value)
        return value

    def after_the_first(self, work: Callable[[], T], between: Callable[[], None]) -> T:
        """Do the work in the first process, then in the others, who find in the cache what it made.

        `between` is called while they wait, and may raise to stop.
        """
        if not self.is_first:
            self._hear(0, between)
            return work()
        made = work()
        self._tell(True)
        return made

    def gather(self, value: T, between: Callable[[], object]) -> list[T]:
        """Return what each process gives; it must be JSON. `between` is called while this one waits."""
        if not self.is_first:
            self._tell(value)
            heard: list[T] = self._hear(0, between)
            return heard
        values = [value, *(self._hear(process, between) for process in sorted(self._links))]
        self._tell(values)
        return values

    def ask_to_stop(self, why: str) -> None:
        """Let all processes see `why` in `asked`; unlike the rest, at any time."""
        self._stop_asked(self.index, why)

    def agree(self, facts: Mapping[str, Any], wrong: type[CodexError], says: str) -> None:
        """Compare facts, JSON by name; raise `wrong` naming each process that has others than the first, and what."""
        if not self.is_first:
            self._tell(dict(facts))
            self._hear(0)
            return
        theirs = {process: self._hear(process) for process in self._links}
        lines = [line for process, other in theirs.items() for line in _differences(facts, process, other)]
        if lines:
            raise wrong("\n  ".join([says, *lines]))
        self._tell(True)

    def raise_if_failed(self) -> None:
        """Raise the error of the process that failed, if one did."""
        if self._failure:
            raise self._failure.error()

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Tell the others when this block fails, and say what another's failure did to this block as that failure."""
        try:
            yield
        except Exception as error:
            # One of ours has another behind it where a save failed: what it waited for may be the process that is gone.
            is_own = isinstance(error, CodexError) and error.__cause__ is None
            if not is_own and self._links and self._news.wait(NEWS_SECS):
                assert self._failure
                raise self._failure.error() from error
            self.announce(error)
            raise

    def leave(self) -> None:
        """Wait until all have come so far, and hang up without ado."""
        self.agree({}, CodexError, "")
        self._over = True
        for link in self._links.values():
            link.send(bye=True)

    def hang_up(self) -> None:
        """Close the links."""
        for link in self._links.values():
            link.close()

    def _tell(self, value: Any) -> None:
        for link in self._links.values():
            link.send(value=value)

    def _hear(self, process: int, between: Callable[[], object] = lambda: None) -> Any:
        while True:
            try:
                return self._links[process].values.get(timeout=_ASK_EVERY_SECS)
            except queue.Empty:
                self.raise_if_failed()
                between()

    def announce(self, error: Exception) -> None:
        """Tell the others that this process fails, and why."""
        failed = exits.readable(error)
        reason = str(failed or f"{type(error).__name__}: {error}")
        failure = Failure(self.index, failed.exit_code if failed else 1, reason)
        if self._links and self._keep(failure):
            self._pass_on(failure)
            threading.Thread(target=self._end, args=(CLOSE_SECS, failure), daemon=True).start()

    def _note(self, failure: Failure) -> None:
        if self._keep(failure):
            self._pass_on(failure)

    def _stop_asked(self, process: int, why: str) -> None:
        self.asked = self.asked or why
        for link in self._links.values():
            if link.process != process:
                link.send(asked=why)

    def _beat(self, every: float) -> None:
        """Say again and again that this process is there: one that is stopped, or whose machine hangs, does not."""
        while not self._over:
            for link in self._links.values():
                link.send(alive=True)
            time.sleep(every)

    def _left(self, process: int) -> None:
        if self._failure and not self._over:
            self._end(LEAVE_SECS, self._failure)  # in the thread of the link, which has nothing else to do any more

    def _end_after(self, secs: float, failure: Failure) -> None:
        """End this process, whatever it waits for, if it has not ended by itself."""
        time.sleep(secs)
        message = f"process {failure.process}: {failure.reason}"
        console.warn(f"{message}\nthis process waited {secs:g} s in vain and ends")
        exits.say_last(lambda: self.tell(message))
        exits.at_once(failure.code)

    def _keep(self, failure: Failure) -> bool:
        """Keep the first failure; return whether this is it."""
        with self._lock:
            if self._failure or self._over:
                return False
            self._failure = failure
        self._news.set()
        return True

    def _pass_on(self, failure: Failure) -> None:
        for link in self._links.values():
            if link.process != failure.process:
                link.send(failure=failure)


def _differences(ours: Mapping[str, Any], process: int, theirs: Mapping[str, Any]) -> Iterator[str]:
    names = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    for name in names[:_SHOWN]:
        there, here = schema.shown(theirs.get(name)), schema.shown(ours.get(name))
        yield f"process {process}: {name} is {there}, of process 0 {here}"
    if len(names) > _SHOWN:
        yield f"process {process}: and {len(names) - _SHOWN} more"
