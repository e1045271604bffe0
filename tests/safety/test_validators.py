"""Check digits and shapes: known good numbers pass, and any changed digit does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_jax.safety import validators


pytestmark = pytest.mark.security

CARDS = ["4111111111111111", "5500005555555559", "371449635398431", "6011000990139424", "30569309025904"]
CARDS += ["3530111333300000", "2223003122003222", "6759649826438453", "6212345678901232"]
IBANS = ["DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NO9386011117947"]


@pytest.mark.parametrize("number", CARDS)
def test_card_of_each_network_passes_and_no_changed_digit_does(number: str) -> None:
    assert validators.card(number) and validators.luhn(number)
    for place in range(len(number)):
        changed = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
        assert not validators.card(changed)


@pytest.mark.parametrize("number", IBANS)
def test_iban_passes_and_no_changed_character_or_length_does(number: str) -> None:
    assert validators.iban(number) and validators.iban(f"{number[:4]} {number[4:]}")
    assert (
        not validators.iban(number[:-1])
        and not validators.iban(f"{number}0")
        and not validators.iban(f"ZZ{number[2:]}")
    )
    for place in range(4, len(number)):
        changed = number[:place] + ("8" if number[place] != "8" else "7") + number[place + 1 :]
        assert not validators.iban(changed)


def test_passport_of_the_standard_passes_and_no_changed_digit_does() -> None:
    line = "L898902C36UTO7408122F1204159ZE184226B<<<<<10"
    assert validators.mrz(line)
    for place in (0, 9, 15, 19, 22, 27, 29, 42, 43):
        changed = line[:place] + ("8" if line[place] != "8" else "7") + line[place + 1 :]
        assert not validators.mrz(changed)


def test_token_of_github_ends_in_its_checksum() -> None:
    # The example of GitHub's announcement of the format is not public; this is CRC32 in base 62 by hand: 0 is 000000.
    assert validators.github("ghp_" + "000000") and not validators.github("ghp_" + "a1B2" * 9)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (
            "ssn",
            ("123-45-6789", "899 99 9999"),
            ("000-12-3456", "666-12-3456", "900-12-3456", "123-00-6789", "123-45-0000"),
        ),
        ("phone", ("+1 555-123-4567", "555-123-4567"), ("555-123", "1111111111", "1234567890123456")),
        ("public_ip", ("8.8.8.8", "2606:4700::1111"), ("10.0.0.1", "127.0.0.1", "256.1.1.1", "::1", "1.2.3")),
        ("mixed", ("abc123", "Tr0ub4dor", "p@ss", "123456"), ("abcdef", "12345", "", "a-b_c")),
    ],
)
def test_shape_is_told_from_what_looks_like_it(check: str, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    assert all(map(validators.VALIDATORS[check], good))
    assert not any(map(validators.VALIDATORS[check], bad))


@given(st.text(min_size=1, max_size=60))
def test_any_text_is_judged_without_failing(text: str) -> None:
    assert validators.entropy(text) >= 0
    for check in validators.VALIDATORS.values():
        check(text)


def test_entropy_counts_bits_a_character() -> None:
    assert validators.entropy("aaaa") == 0 and validators.entropy("abcd") == 2
