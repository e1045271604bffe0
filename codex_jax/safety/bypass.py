"""What a command says aloud when texts pass that the policy would stop."""

from codex_jax import config, console
from codex_jax.safety.gate import Gate


def announce(safety: config.Safety, guard: Gate) -> None:
    """Tell the user what is let through, and the reason that was given for it; nothing where nothing is."""
    reason = f"The reason given: {guard.outward(safety.bypass_reason)}"
    if not safety.enabled:
        console.warn(f"safety.enabled=false: secrets and personal data pass as they are. {reason}")
    elif safety.bypass:
        console.warn(f"safety.bypass=true: what the policy blocks is let through. {reason}")
