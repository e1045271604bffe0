"""Whether texts pass that the policy would stop, and why: asked once, here; the gate keeps the answer."""

from typing import NamedTuple

from codex_jax import config, console


_PASSES = {
    "safety.enabled=false": "secrets and personal data pass as they are",
    "safety.bypass=true": "what the policy blocks is let through",
}


class Bypass(NamedTuple):
    """That texts pass which the policy would stop."""

    enabled: bool
    bypass: bool
    reason: str
    """that was given for it; in a gate, as it may be shown"""

    @property
    def setting(self) -> str:
        """Return what lets them through, as it is set."""
        return "safety.bypass=true" if self.enabled else "safety.enabled=false"

    @property
    def tags(self) -> dict[str, str]:
        """Return what must be seen at a glance where runs are listed."""
        return {"safety.bypass": self.reason}


def of(safety: config.Safety) -> Bypass | None:
    """Return what some settings let through; None for nothing."""
    is_whole = safety.enabled and not safety.bypass
    return None if is_whole else Bypass(safety.enabled, safety.bypass, safety.bypass_reason)


def announce(found: Bypass | None) -> None:
    """Tell the user what is let through, and the reason that was given for it; nothing where nothing is."""
    if found:
        console.warn(f"{found.setting}: {_PASSES[found.setting]}. The reason given: {found.reason}")
