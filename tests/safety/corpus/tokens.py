"""Tokens of providers, by the formats that providers publish or that their tokens are known to have."""

import base64
import json
import random
from collections.abc import Callable

from corpus import draw, tables


TABLE = tables.read("tokens")
PEM_LABELS = ("RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ", "")


def _forms() -> dict[str, list[tuple[str, str]]]:
    """Return, by kind, formats of tokens and the text each stands in."""
    forms: dict[str, list[tuple[str, str]]] = {}
    for line in TABLE["format"]:
        kind, token = line.split(" ", 1)
        forms.setdefault(kind, []).append((token, "<v>"))
    for line in TABLE["within"]:
        kind, token, place = line.split(" ", 2)
        forms.setdefault(kind, []).append((token, place))
    return forms


FORMS = _forms()


def names() -> list[str]:
    """Return every kind of token."""
    return [*FORMS, *MAKERS]


def weight(kind: str) -> int:
    """Return how often a kind is drawn beside the others."""
    return 10 if kind in TABLE["common"] else 1


def make(rng: random.Random, kind: str) -> tuple[str, str]:
    """Return a token, and the text it stands in with `<v>` in its place."""
    if kind in MAKERS:
        return MAKERS[kind](rng)
    token, place = rng.choice(FORMS[kind])
    return draw.text(rng, token), place


def _jwt(rng: random.Random) -> tuple[str, str]:
    algorithm, size = rng.choice((("HS256", 43), ("RS256", 342), ("HS512", 86), ("ES256", 86)))
    header = {"alg": algorithm, "typ": "JWT"} if rng.random() < 0.7 else {"typ": "JWT", "alg": algorithm, "kid": "k1"}
    claims = {
        "sub": draw.text(rng, "<digit:8>"),
        "name": draw.text(rng, "<First>"),
        "iat": rng.randrange(10**9, 2 * 10**9),
    }
    parts = [_base64url(json.dumps(part, separators=(",", ":"))) for part in (header, claims)]
    return ".".join([*parts, draw.chars(rng, "url", size)]), "<v>"


def _base64url(part: str) -> str:
    return base64.urlsafe_b64encode(part.encode()).decode().rstrip("=")


def _private_key(rng: random.Random) -> tuple[str, str]:
    label = rng.choice(PEM_LABELS)
    start, width = ("b3BlbnNzaC1rZXktdjEA", 70) if label == "OPENSSH " else ("MII", 64)
    body = start + draw.chars(rng, "b64", rng.choice((160, 1190, 1620))) + "=" * rng.randrange(3)
    block, headers = "PRIVATE KEY", ""
    if rng.random() < 0.1:
        label, block, headers = "PGP ", "PRIVATE KEY BLOCK", "Version: GnuPG v2\n\n"
        body = "lQ" + body + "\n=" + draw.chars(rng, "b64", 4)
    elif label == "RSA " and rng.random() < 0.3:
        headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC," + draw.chars(rng, "HEX", 32) + "\n\n"
    lines = "\n".join(line[i : i + width] for line in body.split("\n") for i in range(0, len(line), width))
    return lines, f"-----BEGIN {label}{block}-----\n{headers}<v>\n-----END {label}{block}-----"


MAKERS: dict[str, Callable[[random.Random], tuple[str, str]]] = {"jwt": _jwt, "private-key": _private_key}
