"""What is harmless: from the table, or numbers that miss being personal data by a check digit, length or beginning."""

import random
from collections.abc import Callable

from corpus import draw, generic, personal, tables


WRITTEN = ("code", "placeholder", "digest", "number", "address")


def kinds() -> list[str]:
    """Return every kind of harmless text."""
    return [*WRITTEN, *MAKERS]


def make(rng: random.Random, kind: str) -> str:
    """Return a harmless text."""
    if kind in MAKERS:
        return MAKERS[kind](rng)
    table = tables.read("harmless")
    names = generic.spellings(rng, generic.name(rng))
    core = rng.choice(table[kind])
    if kind == "placeholder":
        return draw.fill(rng, rng.choice(table["place"]), {**names, "v": draw.text(rng, core)})[0]
    return draw.fill(rng, core, names)[0]


def _wrong_card(rng: random.Random) -> str:
    card = personal.make(rng, "card")[0]
    card = card[:-1] + str((int(card[-1]) + rng.randint(1, 9)) % 10)
    return rng.choice(("order {}", "{}", "id: {},", "'{}'", "ref={}")).format(card)


def _not_a_card(rng: random.Random) -> str:
    """Valid by Luhn, but no card begins so: device numbers, times, counters."""
    digits = rng.choice(("35", "86", "01", "17", "99", "12")) + draw.chars(rng, "digit", 12)
    return rng.choice(("imei {}", "{}", "device {} seen")).format(digits + str(personal.luhn(digits)))


def _within_digits(rng: random.Random) -> str:
    card = personal.make(rng, "card")[0].replace(" ", "").replace("-", "")
    return rng.choice(("0.{c}", "{c}{m}", "{m}{m}{c}", "x{c}ab{m}f", "{m}.{c}")).format(
        c=card, m=draw.chars(rng, "digit", 6)
    )


def _wrong_iban(rng: random.Random) -> str:
    iban = personal.make(rng, "iban")[0]
    return f"{iban[:2]}{(int(iban[2:4]) + rng.randint(1, 90)) % 97:02}{iban[4:]}"


def _book(rng: random.Random) -> str:
    digits = (rng.choice(("978", "979", "400", "500", "76")) + draw.chars(rng, "digit", 10))[:12]
    digits += str(-sum(int(digit) * (1 + 2 * (i % 2)) for i, digit in enumerate(digits)) % 10)
    dashed = f"{digits[:3]}-{digits[3]}-{digits[4:8]}-{digits[8:12]}-{digits[12]}"
    return rng.choice(("ISBN {d}", "ISBN-13: {d}", "EAN {p}", "{p}", "isbn={p}")).format(d=dashed, p=digits)


def _table(rng: random.Random) -> str:
    rows, columns = rng.randint(2, 6), rng.randint(3, 7)
    separator = rng.choice((" ", ",", "\t", ", ", "  "))
    field = rng.choice(
        ("<n>", "<digit:3>", "<digit:4>", "<float>", "<digit:2>", "<unix>", "-<digit:3>", "<digit:1>.<digit:4>")
    )
    return "\n".join(separator.join(draw.text(rng, field) for _ in range(columns)) for _ in range(rows))


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "wrong-card": _wrong_card,
    "not-a-card": _not_a_card,
    "card-within": _within_digits,
    "wrong-iban": _wrong_iban,
    "book": _book,
    "table": _table,
}
