"""Secrets without a format of their own: what they are called, and what they look like."""

import random

from corpus import draw, tables


# Signs that a format gives a meaning to come in quotes only.
SIGNS = {"quoted": "!@#%^&*-_+=?.~:;,", "bare": "!@%^-_+~", "url": "-_~"}


def name(rng: random.Random) -> str:
    """Return what a secret is called, in snake case."""
    return rng.choice(tables.read("generic")["secret"])


def spellings(rng: random.Random, secret: str) -> dict[str, str]:
    """Return a name, at times with an owner before it, in every way templates write it."""
    words = secret.split("_")
    if rng.random() < 0.5:
        words.insert(0, rng.choice(tables.read("generic")["owner"]))
    camel = words[0] + "".join(word.title() for word in words[1:])
    return {
        "snake": "_".join(words),
        "SCREAM": "_".join(words).upper(),
        "camel": camel,
        "Pascal": camel[0].upper() + camel[1:],
        "kebab": "-".join(words),
        "dotted": ".".join(words),
        "Title": " ".join(words).capitalize(),
    }


def value(rng: random.Random, secret: str, place: str) -> str:
    """Return a secret for a name; `place` (quoted, bare, url) says which signs may be in it."""
    is_password = secret in tables.read("generic")["password"]
    return (chosen if rng.random() < (0.8 if is_password else 0.15) else made)(rng, place)


def chosen(rng: random.Random, place: str) -> str:
    """Return a password as people make them up."""
    template = rng.choice(tables.read("generic")["chosen"])
    if place != "quoted":
        template = template.removeprefix("<sign>")  # a sign in front would be a tag, an option or a home directory
    while "<sign>" in template:
        template = template.replace("<sign>", rng.choice(SIGNS[place]), 1)
    return draw.text(rng, template)


def made(rng: random.Random, place: str) -> str:
    """Return a secret that a machine drew."""
    formats = [form for form in tables.read("generic")["made"] if place != "url" or not form.startswith("<b64")]
    return draw.text(rng, rng.choice(formats))
