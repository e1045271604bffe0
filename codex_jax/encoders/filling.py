"""What an encoder would say in place of hidden tokens: a text with its masks filled in.

L tokens of the text · T masks in it · D model · V vocabulary
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from codex_jax import config, sharding
from codex_jax.errors import ConfigError
from codex_jax.models import build
from codex_jax.safety.gate import Verdict, refuse_blocked
from codex_jax.tokenizers.tokenizer import Tokenizer


def make(
    settings: config.Config,
    definition: build.Definition,
    mesh: Mesh,
    tokenizer: Tokenizer,
    asked: Verdict,
    opening: Sequence[int],
) -> Callable[[dict[str, Any], jax.Array, Callable[[], None]], str]:
    """Return `fill(parameters, key, between) -> text`: the prompt asked for, with the likeliest token at each mask.

    Neither the key nor `between` is used. Without a prompt it is `opening`, a few tokens of the data, of which the
    middle one is hidden. Compiled once, at the first call. ConfigError for a prompt without a mask, that is too long,
    or blocked.
    """
    refuse_blocked(asked, "generate.prompt")
    mask = tokenizer.mask_id
    assert mask is not None, "masking.make refuses a tokenizer without one"
    ids = _prompt(asked.text, tokenizer) if asked.text else _hidden(opening, mask)
    if mask not in ids or len(ids) > settings.model.context_length:
        name = tokenizer.piece(mask)
        raise ConfigError(
            f"generate.prompt has {ids.count(mask)} x {name} in {len(ids)} tokens; an encoder fills in {name}: write "
            f"at least one, and up to model.context_length={settings.model.context_length} tokens"
        )
    tokens_L = np.array([*ids, *[0] * (len(ids) % 2)], np.int32)  # fused kernels take even lengths only
    segments_1L = (np.arange(len(tokens_L)) < len(ids)).astype(np.int32)[None]
    places_T = np.flatnonzero(tokens_L == mask)

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def likeliest(parameters: dict[str, Any]) -> jax.Array:
        model = definition.bind(parameters)
        positions_1L = jnp.arange(len(tokens_L), dtype=jnp.int32)[None]
        hidden_TD = model.before_head(model(tokens_L[None], segments_1L, positions_1L)[:, places_T])[0]
        logits_TV = hidden_TD @ model.head().T + model.head_bias.bias[...][None]
        return jnp.argmax(logits_TV[:, : tokenizer.vocab_size], axis=-1)

    def fill(parameters: dict[str, Any], key: jax.Array, between: Callable[[], None]) -> str:
        filled_L = tokens_L.copy()
        filled_L[places_T] = jax.device_get(likeliest(parameters))
        return tokenizer.decode([index for index in filled_L[: len(ids)].tolist() if index not in _frame(tokenizer)])

    return fill


def _frame(tokenizer: Tokenizer) -> tuple[int | None, int | None]:
    return tokenizer.bos_id, tokenizer.eos_id


def _prompt(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a prompt in their frame. Its masks are meant: it is the user's own text, not data."""
    begin, end = ([] if one is None else [one] for one in _frame(tokenizer))
    return [*begin, *tokenizer.encode([text], special=True)[0].tolist(), *end]


def _hidden(opening: Sequence[int], mask: int) -> list[int]:
    """Return the tokens with one of them hidden."""
    ids = list(opening)
    ids[len(ids) // 2] = mask
    return ids
