"""The chain of events: each carries a digest of all before it, and a checkpoint the digest of the last before it.

`chain` is the SHA-256, cut to 128 bits, of the row without it behind the chain of the row before: an event that is
changed, removed or put in shows. That the last ones are missing shows by the head that a checkpoint keeps. Neither
stops one who can write both and computes them anew.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Head(NamedTuple):
    """The last event of a chain."""

    number: int = 0
    """how many there are; 0 before the first"""
    chain: str = ""

    def after(self, row: Mapping[str, Any]) -> "Head":
        """Return the head when a row is added, which gets its `chain`."""
        plain = {name: value for name, value in row.items() if name != "chain"}
        content = self.chain + json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return Head(self.number + 1, hashlib.sha256(content.encode("ascii")).hexdigest()[:32])


def broken_link(rows: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the first of all rows whose chain is not that of the rows before it, from 1; None if all fit."""
    head = Head()
    for row in rows:
        head = head.after(row)
        if row.get("chain") != head.chain:
            return head.number
    return None


def holds(rows: Iterable[Mapping[str, Any]], head: Head, step: int) -> bool:
    """Return whether a head is in a chain that is whole: the events before a checkpoint of this step are all there.

    Rows that begin with a resume from that step or a later one hold it as well. Their user moved the others away, which
    they tell by that.
    """
    for number, row in enumerate(rows, 1):
        if number == 1 and given_up(row) >= step:
            return True
        if number == head.number:
            return bool(row.get("chain") == head.chain)
    return head.number == 0


def given_up(first: Mapping[str, Any]) -> int:
    """Return the step up to which events were moved away, by the first one that is there; -1 where none were."""
    return int(first["from_step"]) if first["event"] == "run.resumed" else -1
