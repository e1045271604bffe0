"""Text from tokens, up to the first stop string: it is looked for in the text, so that tokens may cut it anyhow."""

from collections.abc import Sequence

from codex_jax.tokenizers.tokenizer import Tokenizer


# Tokens between two looks at the text where somebody waits for a stop string or reads along.
CHUNK = 8


def chunk(stop: Sequence[str], num_tokens: int) -> int:
    """Return how many tokens are written at a time: all where no text ends a row."""
    return CHUNK if stop else num_tokens


def texts(tokenizer: Tokenizer, prompt: Sequence[int], written: Sequence[int], stop: Sequence[str]) -> tuple[str, str]:
    """Return (prompt, answer) as text, the answer up to the first stop string.

    They are decoded together: the first word of a text is written unlike the same word within one.
    """
    before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *written])
    answer = behind(whole, before)
    places = [place for text in stop if (place := answer.find(text)) >= 0]
    return whole[: len(whole) - len(answer)], answer[: min(places, default=len(answer))]


def is_met(tokenizer: Tokenizer, prompt: Sequence[int], written: Sequence[int], stop: Sequence[str]) -> bool:
    """Return whether a stop string is in the answer."""
    if not stop:
        return False
    _, answer = texts(tokenizer, prompt, written, ())
    return any(text in answer for text in stop)


def behind(whole: str, before: str) -> str:
    """Return what of a text stands behind the part that it has in common with another."""
    return whole[len(common(whole, before)) :]


def common(first: str, second: str) -> str:
    """Return how both texts begin."""
    unlike = (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return first[: next(unlike, min(len(first), len(second)))]
