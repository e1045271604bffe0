"""A model that continues texts: what a command, a notebook and a script call.

Prompt and answer pass the safety policy: a prompt that it blocks is refused, and of an answer only what it lets through
is returned or, while it is being written, yielded.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from codex_jax import config, schema
from codex_jax.errors import ConfigError
from codex_jax.generation import decode, sampling, stops, writing
from codex_jax.generation.decode import Decoding, Weights
from codex_jax.generation.sampling import Choice
from codex_jax.models import build
from codex_jax.safety.gate import Gate, refuse_blocked
from codex_jax.tokenizers.tokenizer import Tokenizer


# While a text is being written its last characters are held back: a rule that looks at no more finds the same in what
# was shown as in the whole.
HELD_BACK = 256
BATCH = 8


class Answer(NamedTuple):
    """What a model wrote after a prompt, as it may be seen."""

    prompt: str
    text: str
    """behind the prompt"""
    num_tokens: int
    blocked: tuple[str, ...]
    """rules for which the text is not shown"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Voice:
    """A model, its tokenizer and what it may say."""

    definition: build.Definition
    decoding: Decoding
    weights: Weights
    tokenizer: Tokenizer
    guard: Gate
    options: config.Generate
    """what holds where a call says nothing else"""
    ends: tuple[int, ...]
    """tokens that end a text"""
    opening: tuple[int, ...] = ()
    """tokens before every prompt"""

    def __call__(self, prompt: str, **changes: Any) -> str:
        """Return the text of a prompt and what follows it.

        `changes`: what `answers` takes.
        """
        (answer,) = self.answers([prompt], **changes)
        return answer.text if answer.blocked else answer.prompt + answer.text

    def answers(
        self, prompts: Sequence[str], *, seed: int = 0, batch: int = BATCH, banned: Sequence[int] = (), **changes: Any
    ) -> list[Answer]:
        """Return what follows each prompt; `batch` of them are written at a time.

        `changes` are settings of `generate` by name: num_tokens, temperature, top_k, top_p, min_p, repetition_penalty,
        stop. What follows a prompt depends on it, the seed, and how often the same prompt came before. Raises
        ConfigError for settings that are out of range, and for a prompt that is blocked, empty or too long.
        """
        options = changed(self.options, changes)
        rows = [self._tokens(prompt, options) for prompt in prompts]
        keys_B, size = writing.keys(seed, rows), min(batch, len(rows))
        made: list[Answer] = []
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            # A last batch that is not full is filled up with empty rows instead of compiled for.
            keys = keys_B[jax.numpy.minimum(jax.numpy.arange(at, at + size), len(rows) - 1)]
            chunk = stops.chunk(options.stop, options.num_tokens)
            written = writing.last(self._written(part, keys, options, banned, chunk))
            made += [self._answer(prompt, row, options) for prompt, row in zip(part, written, strict=True)]
        return made

    def stream(self, prompt: str, *, seed: int = 0, banned: Sequence[int] = (), **changes: Any) -> Iterator[str]:
        """Yield what `__call__` returns piece by piece while it is written, the last 256 characters at its end.

        When a rule finds something that reaches further back, so that what was yielded would not be shown any more,
        the text ends there with a note.
        """
        options = changed(self.options, changes)
        row, shown = self._tokens(prompt, options), ""
        written: list[int] = []
        for (written,) in self._written([row], writing.keys(seed, [row]), options, banned, stops.CHUNK):
            certain = self._certain(row, written, options)
            if certain.startswith(shown):
                yield certain[len(shown) :]
                shown = certain
        answer = self._answer(row, written, options)
        whole = answer.text if answer.blocked else answer.prompt + answer.text
        if whole.startswith(shown):
            yield whole[len(shown) :]
        else:
            yield f"\n{answer.text}" if answer.blocked else "\n[what follows is not shown by the safety policy]"

    def _tokens(self, prompt: str, options: config.Generate) -> list[int]:
        asked = self.guard.examine(prompt, "prompt")
        refuse_blocked(asked, "the prompt")
        tokens = [*self.opening, *self.tokenizer.encode([asked.text])[0].tolist()]
        longest = self.definition.shape.context_length
        if not tokens:
            raise ConfigError("the prompt is empty: give the beginning of a text")
        if len(tokens) + options.num_tokens > longest:
            raise ConfigError(
                f"a prompt of {len(tokens)} tokens and num_tokens={options.num_tokens} are more than the "
                f"{longest} tokens of the model's context; shorten one of them"
            )
        return tokens

    def _written(
        self, rows: list[list[int]], keys_B: jax.Array, options: config.Generate, banned: Sequence[int], chunk: int
    ) -> Iterator[list[list[int]]]:
        choice = choice_of(options, self.tokenizer, banned)
        limits = writing.Limits(options.num_tokens, self.ends, chunk)

        def is_done(row: int, tokens: list[int]) -> bool:
            return stops.is_met(self.tokenizer, rows[row], tokens, options.stop)

        return writing.write(self.decoding, self.weights, choice, rows, keys_B, limits, is_done)

    def _texts(self, row: list[int], written: list[int], options: config.Generate) -> tuple[str, str]:
        opening = len(self.opening)
        before, answer = stops.texts(self.tokenizer, row, written, options.stop)
        return before.removeprefix(self.tokenizer.decode(row[:opening])) if opening else before, answer

    def _answer(self, row: list[int], written: list[int], options: config.Generate) -> Answer:
        before, answer = self._texts(row, written, options)
        verdict = self.guard.examine(before + answer, "output")
        text = verdict.shown if verdict.blocked else stops.behind(verdict.text, before)
        prompt = "" if verdict.blocked else verdict.text[: len(verdict.text) - len(text)]
        return Answer(prompt, text, len(written), verdict.blocked)

    def _certain(self, row: list[int], written: list[int], options: config.Generate) -> str:
        """Return the beginning that is the same with what is held back and without it."""
        before, answer = self._texts(row, written, options)
        whole = before + answer
        held = max(HELD_BACK, *map(len, options.stop)) if options.stop else HELD_BACK
        parts = [self.guard.examine(text, "output") for text in (whole, whole[: max(0, len(whole) - held)])]
        return "" if any(part.blocked for part in parts) else stops.common(*(part.text for part in parts))


def open_voice(
    definition: build.Definition,
    mesh: Mesh,
    parameters: dict[str, Any],
    tokenizer: Tokenizer,
    guard: Gate,
    options: config.Generate,
) -> Voice:
    """Return a model that speaks; the blocks of `parameters` are not kept."""
    decoding = decode.make(definition, mesh)
    return Voice(
        definition=definition,
        decoding=decoding,
        weights=decoding.prepare(parameters),
        tokenizer=tokenizer,
        guard=guard,
        options=options,
        ends=() if tokenizer.eos_id is None else (tokenizer.eos_id,),
    )


def choice_of(options: config.Generate, tokenizer: Tokenizer, banned: Sequence[int] = ()) -> Choice:
    """Return how tokens are chosen with some settings."""
    return sampling.choice(
        tokenizer.vocab_size,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        banned=banned,
    )


def changed(options: config.Generate, changes: dict[str, Any]) -> config.Generate:
    """Return settings with some of them changed; ConfigError lists what is unknown or out of range."""
    known = {name: (field, kind) for name, field, kind in schema.walk(config.Generate)}
    problems = [f"unknown setting {name}{schema.nearest(name, list(known))}" for name in changes if name not in known]
    values = {}
    for name in changes.keys() & known.keys():
        values[name], wrong = schema.check(name, changes[name], *known[name])
        problems += wrong
    if problems:
        raise ConfigError(config.listing(problems))
    return dataclasses.replace(options, **values)
