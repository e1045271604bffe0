"""Nested data loses what stands under the name of a secret and what a text holds, and nothing else."""

import pytest

from codex_jax.safety import engine, tree


pytestmark = pytest.mark.security


def test_values_under_names_of_secrets_are_replaced_and_others_kept() -> None:
    data = {
        "user": "jane",
        "login": {"password": "it is 'quoted', and long", "api_key": 12345678, "tries": 3, "password_hint": None},
        "hosts": [{"clientSecret": "x"}, "of a@b.org", ("plain", 1.5)],
        "tokens": 1024,
        "use_password": True,
        "secret": "",
    }
    assert tree.redacted(data, engine.default(), "log") == {
        "user": "jane",
        "login": {
            "password": "[REDACTED:password]",
            "api_key": "[REDACTED:secret-value]",
            "tries": 3,
            "password_hint": None,
        },
        "hosts": [{"clientSecret": "[REDACTED:secret-value]"}, "of [REDACTED:email]", ["plain", 1.5]],
        "tokens": 1024,
        "use_password": True,
        "secret": "",
    }
