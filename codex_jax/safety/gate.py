"""The gate: what the rest of the program asks whether a text may pass, and what of it may be seen.

A policy's engine, a classifier of the user's own, and a bypass that lets blocked texts through but takes nothing out of
sight: what is redacted stays redacted.
"""

import dataclasses
import functools
import hashlib
import hmac
import importlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax import atomic, cache, config, digest, schema
from codex_jax.errors import AssetError, ConfigError
from codex_jax.safety import bypass, engine, names, policy
from codex_jax.safety.bypass import Bypass
from codex_jax.safety.policy import Policy


# The rule that a classifier's refusal is reported as.
CLASSIFIER = "classifier"
# Fields of events whose text is a name or a digest of this program's own: a rule against a word may bear that word.
_OUR_WORDS = frozenset({"rule", "action", "stage", "split", "document", "hash", "digest"})
# Settings, whatever a rule makes of their names (a seed is one of a wallet as well), and counts by action and rule.
_OUR_NAMES = frozenset(name.split(".")[-1] for name, _ in schema.flatten(dataclasses.asdict(config.Config())))
_OUR_COUNTS = ("redact/", "block/", "flag/", "bypass/")
Classifier = Callable[[str, str], object]


class Finding(NamedTuple):
    """What a rule found and what was done about it; never what it was."""

    rule: str
    action: str
    """redact, block or flag; bypass for a block that was overridden"""
    start: int
    """in characters of the text"""
    end: int
    hash: str
    """HMAC-SHA256 of what was found, cut to 64 bits: tells whether two are the same, to nobody without the key"""


class Verdict(NamedTuple):
    """What becomes of a text."""

    pieces: list[tuple[str, bool]]
    """the text with placeholders, and whether each piece may be learnt"""
    findings: list[Finding]
    blocked: tuple[str, ...]
    """rules for which it must not pass; empty under a bypass"""

    @property
    def text(self) -> str:
        """The text with `[REDACTED:rule]` in place of what was found."""
        return "".join(piece for piece, _ in self.pieces)

    @property
    def shown(self) -> str:
        """What may be shown: the text, or why it is not."""
        return "".join(f"[BLOCKED:{rule}]" for rule in self.blocked) or self.text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate:
    """Decides about texts; can be sent to other processes, which decide alike."""

    policy: Policy | None = dataclasses.field(repr=False)
    """None: everything passes as it is"""
    bypass: Bypass | None = None
    """None: what is blocked does not pass"""
    classifier: str = ""
    """module:function of two texts, what is to be judged and the stage; what it does not call true is blocked"""
    key: bytes = dataclasses.field(default=b"", repr=False, compare=False)
    """of the hashes of findings; without one they are empty"""

    def examine(self, text: str, stage: str) -> Verdict:
        """Return what becomes of a text at a stage: train, eval, prompt, output or log."""
        if self._engine is None:
            return Verdict([(text, True)] if text else [], [], ())
        decision = self._engine.examine(text, stage)
        blocked = set(decision.blocked)
        findings = [
            Finding(match.rule, self._done(match.action), match.start, match.end, self._hash(text, match))
            for match in decision.matches
        ]
        if self.classifier and text and not _passes(self.classifier, text, stage):
            blocked.add(CLASSIFIER)
            findings.append(Finding(CLASSIFIER, self._done("block"), 0, len(text), self._sign(text)))
        return Verdict(decision.pieces, findings, () if self.bypass else tuple(sorted(blocked)))

    def content(self) -> str:
        """Return what decides about texts: equal ones decide alike."""
        if self.policy is None:
            return "off"
        rules, is_bypassed = self.policy.digest(), self.bypass is not None
        own = [self.classifier, _classifier_digest(self.classifier)] if self.classifier else []
        return digest.of_json([rules, is_bypassed, *own]) if own or is_bypassed else rules

    def outward(self, value: Any, name: str = "") -> Any:
        """Return nested plain values as a file may hold them: without what texts say, and what names say they are.

        `name` is what the value stands under. Names themselves, truth values and nothing stay as they are.
        """
        if isinstance(value, Mapping):
            return {key: part if key in _OUR_WORDS else self.outward(part, str(key)) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.outward(part, name) for part in value]
        if rule := self._secret(name, value):
            return f"[REDACTED:{rule}]"
        return self.examine(value, "log").shown if isinstance(value, str) else value

    def named(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return facts that are compared and kept: a text that may not be seen is told by its SHA-256."""
        return {
            name: f"sha256 {digest.of_json(value)}" if self.outward(value) != value else value
            for name, value in facts.items()
        }

    def unkeyed(self) -> "Gate":
        """Return the same gate without hashes: what it says is the same on every machine."""
        return dataclasses.replace(self, key=b"")

    def _secret(self, name: str, value: Any) -> str:
        """Return the rule by which a value is secret for its name alone; empty where it is not."""
        is_empty = value is None or value == "" or isinstance(value, bool)
        if is_empty or self._engine is None or name in _OUR_NAMES or name.startswith(_OUR_COUNTS):
            return ""
        return names.rule_of(name, self._engine)

    @functools.cached_property
    def _engine(self) -> engine.Engine | None:
        # Kept: to find it by its policy takes ten times as long as to examine a short text.
        return engine.of(self.policy) if self.policy else None

    def _done(self, action: str) -> str:
        return "bypass" if self.bypass and action == "block" else action

    def _hash(self, text: str, match: engine.Match) -> str:
        return self._sign(text[match.start : match.end])

    def _sign(self, text: str) -> str:
        if not self.key:
            return ""
        return hmac.new(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]


def of(safety: config.Safety) -> Gate:
    """Return the gate of some settings.

    Raises ConfigError for a bypass that the policy forbids and for a classifier that cannot be loaded, AssetError for a
    policy that is missing or refused: no other takes its place.
    """
    found = _policy(safety.policy)
    off = bypass.of(safety)
    if off and found.forbid_bypass:
        raise ConfigError(
            f"{off.setting} is forbidden by the policy {found.source}: set it back, or name another in safety.policy"
        )
    if safety.classifier:
        load_classifier(safety.classifier)
    made = Gate(policy=found if safety.enabled else None, classifier=safety.classifier, key=audit_key())
    return dataclasses.replace(made, bypass=off and off._replace(reason=made.outward(off.reason)))


def _policy(name: str) -> Policy:
    if not name:
        return policy.default()
    path = Path(name).expanduser()
    if not path.is_file():
        raise AssetError(f"safety.policy={name} is not a file: correct it, or leave it out for that of the package")
    status = path.stat()
    return _loaded(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@functools.lru_cache(maxsize=8)
def _loaded(path: Path, _: tuple[int, int, int]) -> Policy:
    """Return a policy, read once while its file stays as it is: its examples are tried."""
    return policy.load(path)


def refuse_blocked(asked: Verdict, name: str) -> None:
    """Raise ConfigError for a prompt that the safety policy blocks."""
    if asked.blocked:
        raise ConfigError(
            f"{name} is blocked by the safety policy ({', '.join(asked.blocked)}); ask for something else, or "
            "change safety.policy"
        )


@functools.cache
def load_classifier(name: str) -> Classifier:
    """Return the function of `module:function`; ConfigError when there is none."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # the module is the user's own program
        raise ConfigError(
            f"safety.classifier={name} cannot be loaded ({type(error).__name__}: {error}); name a function as "
            "module:function"
        ) from error
    if not callable(found):
        raise ConfigError(f"safety.classifier={name} is no function but a {type(found).__name__}")
    return found


def audit_key() -> bytes:
    """Return the key of this machine for hashes of findings: of the variable CODEX_SAFETY_AUDIT_KEY, or its own.

    It is made once and lies in the cache, never beside what it signs. Raises AssetError when it cannot be kept.
    """
    if given := os.environ.get("CODEX_SAFETY_AUDIT_KEY", ""):
        return given.encode()
    path = cache.directory("safety") / "audit.key"
    try:
        if not path.exists():
            atomic.write_once(path, secrets.token_hex(32).encode())
        return path.read_bytes()
    except OSError as error:
        raise AssetError(f"{path} cannot be kept ({error.strerror}); set CODEX_SAFETY_AUDIT_KEY") from error


def _passes(classifier: str, text: str, stage: str) -> bool:
    try:
        return bool(load_classifier(classifier)(text, stage))
    except Exception:  # what cannot be judged does not pass
        return False


@functools.cache
def _classifier_digest(name: str) -> str:
    code = getattr(importlib.import_module(name.partition(":")[0]), "__file__", None)
    return digest.of_file(Path(code)) if code else ""
