"""Checks that tell a number or token from what only looks like one; each takes the text that a pattern found."""

import ipaddress
import math
import re
import string
import zlib
from collections import Counter
from collections.abc import Callable


_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
# Lengths of the account number as a whole, by country (ISO 13616 registry).
_IBAN = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 "
    "EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 "
    "KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 "
    "PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 "
    "UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {word[:2]: int(word[2:]) for word in _IBAN.split()}
# Prefix and lengths of the card networks: Visa, Mastercard (both ranges), American Express, Discover, Diners, JCB,
# Maestro and UnionPay.
_CARDS = re.compile(
    r"4\d{15}(\d{3})?|5[1-5]\d{14}|2(22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(011|4[4-9]\d|5\d\d)\d{12}(\d{3})?|3(0[0-5]\d|[689]\d\d)\d{10}|35(2[89]|[3-8]\d)\d{12}"
    r"|(5018|5020|5038|6304|6759|676[1-3])\d{8,15}|62\d{14,17}"
)


def entropy(text: str) -> float:
    """Return Shannon's entropy of the characters, in bits a character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def luhn(text: str) -> bool:
    """Say whether the last digit is the check digit of those before it."""
    digits = _digits(text)
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(two - 9 if two > 9 else two for two in doubled)) % 10 == 0


def card(text: str) -> bool:
    """Say whether it is a number that a card network gives out, with its check digit."""
    digits = _digits(text)
    return _CARDS.fullmatch(digits) is not None and len(set(digits)) > 1 and luhn(digits)


def iban(text: str) -> bool:
    """Say whether it has the length of its country and the remainder 1 (ISO 7064, modulo 97)."""
    code = re.sub(r"[ -]", "", text).upper()
    if _IBAN_LENGTHS.get(code[:2]) != len(code):
        return False
    return int("".join(str(int(letter, 36)) for letter in code[4:] + code[:4])) % 97 == 1


def ssn(text: str) -> bool:
    """Say whether the area, group and serial number of a US social security number can have been given out."""
    digits = _digits(text)
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    given = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    # Not a run of one digit, and none of the numbers that advertisements made known.
    return len(digits) == 9 and given and len(set(digits)) > 1 and digits not in ("078051120", "219099999")


def phone(text: str) -> bool:
    """Say whether the digits make a number of 7 to 15 that is not one digit over and over (E.164)."""
    digits = _digits(text)
    return 7 <= len(digits) <= 15 and len(set(digits)) > 2


def mrz(text: str) -> bool:
    """Say whether the second line of a passport's machine readable zone has its five check digits right (ICAO 9303)."""
    if len(text) != 44:
        return False
    parts = ((text[:9], text[9]), (text[13:19], text[19]), (text[21:27], text[27]), (text[28:42], text[42]))
    whole = text[:10] + text[13:20] + text[21:43]
    # The number behind the dates may be left out, and its digit with it.
    return all(digit in (_mrz_digit(part), "<") for part, digit in parts) and _mrz_digit(whole) == text[43]


def github(text: str) -> bool:
    """Say whether a token of GitHub or npm ends in the CRC32 of its random part, in base 62."""
    body = text.rpartition("_")[2]
    value, written = zlib.crc32(body[:-6].encode()), ""
    for _ in range(6):
        value, rest = divmod(value, 62)
        written = _BASE62[rest] + written
    return body[-6:] == written


def public_ip(text: str) -> bool:
    """Say whether it names a machine on the internet: not private, not local, not kept for documentation."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def mixed(text: str) -> bool:
    """Say whether letters stand beside digits or signs, or six digits and more alone: no word, and no name in code."""
    letters = any(character.isalpha() for character in text)
    digits = any(character.isdecimal() for character in text)
    signs = any(character in "!@#$%^&*+~?" for character in text)
    return (letters and (digits or signs)) or (text.isdecimal() and len(text) >= 6)


def _digits(text: str) -> str:
    return "".join(character for character in text if character in string.digits)


def _mrz_digit(text: str) -> str:
    values = (0 if character == "<" else int(character, 36) for character in text)
    return str(sum(value * (7, 3, 1)[place % 3] for place, value in enumerate(values)) % 10)


VALIDATORS: dict[str, Callable[[str], bool]] = {
    check.__name__: check for check in (card, github, iban, luhn, mixed, mrz, phone, public_ip, ssn)
}
