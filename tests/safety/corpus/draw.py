"""Fills templates: `<hex:40>` becomes 40 random characters of a class, `<word>` a random word, `<v>` the value."""

import random
import re
import string
import zlib
from collections.abc import Callable, Mapping

from corpus import tables


BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
CLASSES = {
    "digit": string.digits,
    "from2": string.digits[2:],
    "hex": string.digits + "abcdef",
    "HEX": string.digits + "ABCDEF",
    "alnum": BASE62,
    "letter": string.ascii_letters,
    "lower": string.ascii_lowercase + string.digits,
    "UPPER": string.ascii_uppercase + string.digits,
    "CAPS": string.ascii_uppercase,
    "b32": string.ascii_uppercase + "234567",
    "b64": BASE62 + "+/",
    "url": BASE62 + "-_",
    "bech32": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
    "dna": "ACGT",
    "x": "x",
    "X": "X",
}
FIELD = re.compile(r"<([A-Za-z0-9_]+)(?::(\d+)(?:-(\d+))?)?>")

Rng = random.Random


def chars(rng: Rng, kind: str, count: int) -> str:
    """Return `count` random characters of a class."""
    return "".join(rng.choices(CLASSES[kind], k=count))


def checked62(rng: Rng, count: int) -> str:
    """Return random base62 with the checksum of GitHub's and npm's tokens: CRC-32 in base62, six digits."""
    body = chars(rng, "alnum", count)
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = BASE62[digit] + digits
    return body + digits


def fill(rng: Rng, template: str, values: Mapping[str, str] | None = None) -> tuple[str, list[tuple[int, int]]]:
    """Return the template with its fields filled, and where `<v>` came to stand, in characters.

    A field is one of `values`, a class with a count or a range of counts, or the name of a word list; what is none of
    these, such as an HTML tag, stays.
    """
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    done = length = 0
    for match in FIELD.finditer(template):
        part = _field(rng, match, values or {})
        if part is None:
            continue
        parts += template[done : match.start()], part
        length += match.start() - done
        if match[1] == "v":
            spans.append((length, length + len(part)))
        length += len(part)
        done = match.end()
    return "".join([*parts, template[done:]]), spans


def text(rng: Rng, template: str) -> str:
    """Return the template with its fields filled."""
    return fill(rng, template)[0]


def _field(rng: Rng, match: re.Match[str], values: Mapping[str, str]) -> str | None:
    name, least, most = match.groups()
    if name in values and least is None:
        return values[name]
    if least is not None:
        count = rng.randint(int(least), int(most or least))
        return checked62(rng, count) if name == "crc62" else chars(rng, name, count)
    if name in tables.read("words"):
        return rng.choice(tables.read("words")[name])
    return FIELDS[name](rng) if name in FIELDS else None


def _date(rng: Rng) -> str:
    return f"{rng.randint(1995, 2029)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: Rng) -> str:
    return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"


def _uuid(rng: Rng) -> str:
    return text(rng, f"<hex:8>-<hex:4>-4<hex:3>-{rng.choice('89ab')}<hex:3>-<hex:12>")


def _host(rng: Rng) -> str:
    return text(rng, rng.choice(("<word>.internal", "<word>-<word>.svc.local", "db<digit:1>.<word>.lan", "<ip>")))


FIELDS: dict[str, Callable[[Rng], str]] = {
    "Word": lambda rng: text(rng, "<word>").title(),
    "n": lambda rng: str(int(10 ** rng.uniform(0, 5))),
    "float": lambda rng: f"{rng.uniform(-1, 1) * 10 ** rng.randint(-4, 4):.{rng.randint(1, 9)}g}",
    "date": _date,
    "time": _time,
    "unix": lambda rng: str(rng.randint(900_000_000, 1_900_000_000)),
    "ip": lambda rng: ".".join(str(rng.randint(1, 254)) for _ in range(4)),
    "mac": lambda rng: ":".join(chars(rng, "hex", 2) for _ in range(6)),
    "uuid": _uuid,
    "host": _host,
    "version": lambda rng: f"{rng.randint(0, 30)}.{rng.randint(0, 40)}.{rng.randint(0, 99)}",
}
