"""What a model in training writes: one continuation of `generate.prompt`, drawn anew at every evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from codex_jax import config
from codex_jax.generation import decode, stops, writing
from codex_jax.generation.text import choice_of
from codex_jax.models import build
from codex_jax.safety.gate import Verdict, refuse_blocked
from codex_jax.tokenizers.tokenizer import Tokenizer


Sample = Callable[[dict[str, Any], jax.Array, Callable[[], None]], str]
# Tokens between two looks whether to stop.
_CHUNK = 64


def make(
    settings: config.Config,
    definition: build.Definition,
    mesh: Mesh,
    tokenizer: Tokenizer,
    asked: Verdict,
    opening: Sequence[int],
) -> Sample:
    """Return `sample(parameters, key, between) -> text`: the prompt and at most `generate.num_tokens` tokens after it.

    `between` is called now and then while it is written, and may raise to stop. Without a prompt asked for it is
    `opening`, a few tokens of the data. It is shortened from the left to what leaves room in the context. Compiled
    once, at the first call. ConfigError for a prompt that the safety policy blocks.
    """
    options = settings.generate
    refuse_blocked(asked, "generate.prompt")
    # Not the end token alone: where documents are isolated nothing is learnt to follow it.
    prompt = tokenizer.encode([asked.text])[0].tolist() or list(opening)
    prompt = prompt[-(settings.model.context_length - options.num_tokens) :]
    decoding, choice = decode.make(definition, mesh), choice_of(options, tokenizer)
    ends = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    chunk = min(stops.chunk(options.stop, options.num_tokens), _CHUNK)
    limits = writing.Limits(options.num_tokens, ends, chunk)

    def sample(parameters: dict[str, Any], key: jax.Array, between: Callable[[], None]) -> str:
        def is_done(_: int, tokens: list[int]) -> bool:
            between()
            return stops.is_met(tokenizer, prompt, tokens, options.stop)

        (written,) = writing.last(
            writing.write(decoding, decode.as_they_are(parameters), choice, [prompt], key[None], limits, is_done)
        )
        return "".join(stops.texts(tokenizer, prompt, written, options.stop))

    return sample
