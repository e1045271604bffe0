"""A rule: what it looks for, and what is done about it at each stage."""

import dataclasses

from codex_jax import digest


# Text that is learnt from, that is measured on, that a user gives, that a model says, and that reaches a file.
STAGES = ("train", "eval", "prompt", "output", "log")
# The stronger first.
ACTIONS = ("block", "redact", "flag", "allow")
SEVERITIES = ("critical", "high", "medium", "low")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What to look for, how to tell it from what looks like it, and what to do."""

    id: str
    description: str = ""
    severity: str = "high"
    actions: tuple[tuple[str, str], ...] = tuple((stage, "redact") for stage in STAGES)
    """(stage, action); at a stage that is not named the rule does nothing"""
    patterns: tuple[str, ...] = ()
    """RE2; where one has a group, the last that took part is what is found, and the rest is context"""
    keywords: tuple[str, ...] = ()
    """the patterns are tried only on texts that hold one of these, in any case, or with a capital as it is written;
    none: on every text"""
    group: int | None = None
    """the number of the group that is found, instead of the last"""
    entropy: float = 0.0
    """bits a character a finding has at least"""
    validator: str = ""
    """name of the check in `validators` that a finding has to pass"""
    harmless: tuple[str, ...] = ()
    """RE2; a finding that one of these matches as a whole is let be"""
    only: tuple[str, ...] = ()
    """of an allow rule: ids of the rules it may spare; none: of all"""
    enabled: bool = True
    finds: tuple[str, ...] = ()
    """texts the rule finds something in"""
    spares: tuple[str, ...] = ()
    """texts that look like it and in which the rule finds nothing"""

    def action(self, stage: str) -> str | None:
        """Return what to do at a stage; None for nothing."""
        return dict(self.actions).get(stage)

    @property
    def decides(self) -> dict[str, object]:
        """Everything that decides what becomes of a text."""
        silent = ("description", "finds", "spares")
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in silent}


def policy_digest(rules: tuple[Rule, ...], version: int) -> str:
    """Return the SHA-256 of what rules decide, with the version of the code that applies them."""
    return digest.of_json([version, [rule.decides for rule in rules if rule.enabled]])
