"""Puts values into contexts and contexts into texts: the samples, each a function of the seed and its number alone."""

import base64
import json
import random
import re
from collections.abc import Callable
from typing import NamedTuple

from corpus import draw, generic, lookalikes, personal, tables, tokens


class Span(NamedTuple):
    """A value in a text, in characters; a text that keeps any of it has leaked."""

    group: str
    kind: str
    start: int
    end: int


class Sample(NamedTuple):
    """A text and what is in it; for a harmless one, of which kind it is."""

    text: str
    spans: list[Span]
    harmless: str = ""


class Core(NamedTuple):
    """The lines with the value, and where it is."""

    text: str
    places: list[tuple[int, int]]


GROUPS = ("token", "personal", "generic")


def make(seed: int, size: int) -> list[Sample]:
    """Return `size` samples with values for each of three groups, and as many harmless ones as all of them together."""
    samples = [_positive(_rng(seed, group, i), group) for group in GROUPS for i in range(size)]
    return samples + [_harmless(_rng(seed, "harmless", i)) for i in range(len(samples))]


def _rng(seed: int, group: str, number: int) -> random.Random:
    return random.Random(f"{seed}/{group}/{number}")


def _positive(rng: random.Random, group: str) -> Sample:
    kind, core = CORES[group](rng)
    text, places = _surrounded(rng, core)
    return Sample(text, [Span(group, kind, start, end) for start, end in places])


def _harmless(rng: random.Random) -> Sample:
    kind = rng.choice(lookalikes.kinds())
    text, _ = _surrounded(rng, Core(lookalikes.make(rng, kind), []))
    return Sample(text, [], kind)


def _token(rng: random.Random) -> tuple[str, Core]:
    kinds = tokens.names()
    kind = rng.choices(kinds, [tokens.weight(name) for name in kinds])[0]
    value, place = tokens.make(rng, kind)
    if place != "<v>":
        return kind, _core(rng, place, value)
    service = kind.replace("-", "_").split("_")[0]
    names = (f"{service}_token", f"{service}_api_key", f"{service}_key", "token", "api_key", "key", "access_token")
    return kind, _core(
        rng, _context(rng, rng.choices(("quoted", "bare", "free"), (4, 3, 4))[0]), value, rng.choice(names)
    )


def _personal(rng: random.Random) -> tuple[str, Core]:
    kind = rng.choice(personal.kinds())
    value, place = personal.make(rng, kind)
    if kind == "passport":
        core = _core(rng, place, value)
        name = re.search("P<[A-Z<]{3}([A-Z<]*[A-Z])<", core.text)
        assert name is not None, core
        return kind, core._replace(places=[name.span(1), *core.places])
    return kind, _core(rng, _context(rng, "person").replace("<v>", place), value)


def _generic(rng: random.Random) -> tuple[str, Core]:
    form = rng.choices(("quoted", "bare", "url", "password", "header"), (9, 7, 3, 2, 1))[0]
    context, secret = _context(rng, form), generic.name(rng)
    if form in ("quoted", "bare"):
        return form, _core(rng, context, generic.value(rng, secret, form), secret)
    if form != "header":
        return form, _core(rng, context, generic.value(rng, rng.choice(("password", "token")), "url"))
    if "Basic" in context:
        return form, _core(rng, context, base64.b64encode(f"user:{generic.chosen(rng, 'bare')}".encode()).decode())
    return form, _core(rng, context, generic.made(rng, "bare"))


def _context(rng: random.Random, form: str) -> str:
    return rng.choice(tables.read("contexts")[form])


def _core(rng: random.Random, template: str, value: str, secret: str = "") -> Core:
    names = generic.spellings(rng, secret) if secret else {}
    return Core(*draw.fill(rng, template, {**names, "v": value}))


CORES = {"token": _token, "personal": _personal, "generic": _generic}


def _surrounded(rng: random.Random, core: Core) -> Core:
    """Put lines before and behind; sometimes other line ends, comment marks before lines, or all into a JSON string."""
    lines = tables.read("words")["prose"] + tables.read("words")["code"]
    before = [draw.text(rng, rng.choice(lines)) + "\n" for _ in range(rng.choice((0, 0, 1, 2, 4)))]
    after = ["\n" + draw.text(rng, rng.choice(lines)) for _ in range(rng.choice((0, 0, 1, 2)))]
    lead = "".join(before) + " " * rng.choice((0, 0, 2, 4, 8))
    core = Core(lead + core.text + "".join(after), [(a + len(lead), b + len(lead)) for a, b in core.places])
    way = rng.random()
    if way < 0.1:
        return mapped(core, lambda part: part.replace("\n", "\r\n"))
    if way < 0.18:
        inner = mapped(core, lambda part: json.dumps(part, ensure_ascii=False)[1:-1])
        return Core(f'{{"text": "{inner.text}"}}', [(a + 10, b + 10) for a, b in inner.places])
    if way < 0.26:
        mark = rng.choice(("# ", "// ", " * ", "> ", "\t", "    "))
        return mapped(core, lambda part: part.replace("\n", "\n" + mark))
    return core


def mapped(core: Core, change: Callable[[str], str]) -> Core:
    """Change a text piece by piece, so that it stays known where the values are."""
    out, places, done = "", [], 0
    for start, end in core.places:
        out += change(core.text[done:start])
        value = change(core.text[start:end])
        places.append((len(out), len(out) + len(value)))
        out += value
        done = end
    return Core(out + change(core.text[done:]), places)
