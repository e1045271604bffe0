"""Personal data with a structure: e-mail addresses, telephone numbers, cards, accounts, US SSNs, passports."""

import random
import unicodedata
from collections.abc import Callable

from corpus import draw, tables


TABLE = tables.read("personal")


def kinds() -> list[str]:
    """Return every kind of personal data."""
    return list(MAKERS)


def make(rng: random.Random, kind: str) -> tuple[str, str]:
    """Return a value, and the text it stands in with `<v>` in its place."""
    return MAKERS[kind](rng)


def _email(rng: random.Random) -> tuple[str, str]:
    first, last = (_ascii(draw.text(rng, name)) for name in ("<First>", "<Last>"))
    if rng.random() < 0.05:
        first = draw.text(rng, "<First>").lower()
    local = draw.fill(rng, rng.choice(TABLE["local"]), {"first": first, "last": last, "f": first[0]})[0]
    address = f"{local}@{draw.text(rng, rng.choice(TABLE['domain']))}"
    return (address.upper() if rng.random() < 0.05 else address), "<v>"


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return plain.replace("'", "") or "x"


def _phone(rng: random.Random) -> tuple[str, str]:
    """International numbers stand alone; one written as at home comes with a word that says what it is."""
    form = rng.choices(("international", "american", "national"), (6, 3, 2))[0]
    return draw.text(rng, rng.choice(TABLE[form])), rng.choice(TABLE["label"]) if form == "national" else "<v>"


def luhn(digits: str) -> int:
    """Return the digit that makes `digits` a valid number of a card."""
    total = sum(sum(divmod(int(digit) * (2 - index % 2), 10)) for index, digit in enumerate(reversed(digits)))
    return -total % 10


def _card(rng: random.Random) -> tuple[str, str]:
    prefix, *sizes = rng.choice(TABLE["card"]).split()
    groups = [int(size) for size in sizes]
    digits = prefix + draw.chars(rng, "digit", sum(groups) - 1 - len(prefix))
    digits += str(luhn(digits))
    starts = [sum(groups[:i]) for i in range(len(groups))]
    parts = [digits[start : start + size] for start, size in zip(starts, groups, strict=True)]
    return rng.choice((" ", " ", "-", "", "")).join(parts), "<v>"


def _ssn(rng: random.Random) -> tuple[str, str]:
    area = rng.choice([number for number in range(1, 900) if number != 666])
    groups = f"{area:03}", f"{rng.randint(1, 99):02}", f"{rng.randint(1, 9999):04}"
    style = rng.random()
    if style < 0.15:
        return "".join(groups), rng.choice(("SSN: <v>", "ssn=<v>", "Social Security Number: <v>", '"ssn": "<v>"'))
    return (" " if style < 0.25 else "-").join(groups), "<v>" if style > 0.25 else "SSN <v>"


def iban_check(country: str, account: str) -> str:
    """Return the two check digits of an IBAN (ISO 7064, modulo 97)."""
    number = "".join(str(int(letter, 36)) for letter in account + country + "00")
    return f"{98 - int(number) % 97:02}"


def _iban(rng: random.Random) -> tuple[str, str]:
    country, *parts = rng.choice(TABLE["iban"]).split()
    account = draw.text(rng, "".join(parts))
    iban = country + iban_check(country, account) + account
    blocks = " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))
    return (blocks if rng.random() < 0.5 else iban), "<v>"


def mrz_digit(field: str) -> str:
    """Return the check digit of a field of a machine-readable passport (weights 7, 3, 1)."""
    values = [0 if letter == "<" else int(letter, 36) for letter in field]
    return str(sum(value * (7, 3, 1)[i % 3] for i, value in enumerate(values)) % 10)


def _passport(rng: random.Random) -> tuple[str, str]:
    country = rng.choice(("UTO", "USA", "GBR", "FRA", "D<<", "JPN", "IND", "BRA"))
    number = draw.text(rng, rng.choice(("<CAPS:1><digit:8>", "<digit:9>", "<CAPS:2><digit:7>")))
    born, ends = (draw.FIELDS["date"](rng)[2:].replace("-", "") for _ in range(2))
    fields = [number + mrz_digit(number), born + mrz_digit(born), ends + mrz_digit(ends), "<" * 14 + "0"]
    line = f"{fields[0]}{country}{fields[1]}{rng.choice('MF<')}{fields[2]}{fields[3]}{mrz_digit(''.join(fields))}"
    names = f"{_ascii(draw.text(rng, '<Last>')).upper()}<<{_ascii(draw.text(rng, '<First>')).upper()}"
    return line, f"P<{country}{names:<<39}\n<v>"


MAKERS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "ssn": _ssn,
    "iban": _iban,
    "passport": _passport,
}
