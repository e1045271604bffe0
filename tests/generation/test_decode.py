"""Decoding beside transformers' `generate`, an argmax loop, and itself in other batches."""

import dataclasses
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_models

from codex_jax import config, trees
from codex_jax.generation import decode, sampling, writing
from codex_jax.models import build, lora


pytestmark = pytest.mark.model

MESH = jax.make_mesh(
    (1, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,) * 3
)
LENGTHS = (9, 23, 1)


class Small:
    """A model of torch_models and what decodes with it."""

    def __init__(self, name: str, dtype: str = "float32") -> None:
        self.peer = torch_models.network(name)
        model = torch_models.settings_of(self.peer)
        self.definition = build.define(dataclasses.replace(model, compute_dtype=dtype))
        self.parameters = torch_models.parameters_of(self.peer, self.definition)
        self.decoding = decode.make(self.definition, MESH)
        self.weights = self.decoding.prepare(self.parameters)

    def write(self, prompts: list[list[int]], num_tokens: int, batch: int = 0, **how: Any) -> list[list[int]]:
        ends, chunk = how.pop("ends", ()), how.pop("chunk", num_tokens)
        choice = sampling.choice(self.definition.shape.vocab_size, **({"temperature": 0.0} | how))
        keys_B = jnp.resize(writing.keys(0, prompts), max(batch, len(prompts)))
        limits = writing.Limits(num_tokens, ends, chunk)
        given = (self.decoding, self.weights, choice, prompts, keys_B, limits)
        return writing.last(writing.write(*given, lambda row, tokens: False))


def prompts(vocabulary: int = 99) -> list[list[int]]:
    draw = np.random.default_rng(3)
    return [draw.integers(0, vocabulary, length).tolist() for length in LENGTHS]


# The others take the same way through other layers, and a minute; mistral is below.
USUAL = ("gpt2", "qwen3")
DECODERS = [name for name, (family, _) in torch_models.CONFIGS.items() if family != "bert"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in USUAL else pytest.mark.slow) for name in DECODERS]
)
def test_greedy_tokens_equal_transformers(torch_oracle: ModuleType, name: str) -> None:
    small = Small(name)
    expected = []
    for prompt in prompts():
        given = torch_oracle.tensor([prompt])
        with torch_oracle.no_grad():
            made = small.peer.generate(
                given, attention_mask=torch_oracle.ones_like(given), do_sample=False, max_new_tokens=32, pad_token_id=0
            )
        expected.append(made[0, len(prompt) :].tolist())
    assert small.write(prompts(), 32) == expected


@pytest.fixture(scope="module")
def small() -> Small:
    return Small("mistral")


def test_cached_decoding_equals_reading_everything_again(torch_oracle: ModuleType, small: Small) -> None:
    @jax.jit
    def likeliest(parameters: Any, tokens_1L: jax.Array, length: jax.Array) -> jax.Array:
        model = small.definition.bind(parameters)
        positions_1L = jnp.arange(tokens_1L.shape[1])[None]
        hidden_1LD = model(tokens_1L, jnp.ones_like(tokens_1L), positions_1L)
        return jnp.argmax(model.head() @ hidden_1LD[0, length - 1])

    for prompt, written in zip(prompts(), small.write(prompts(), 20), strict=True):
        tokens = list(prompt)
        for _ in range(20):
            given = np.zeros((1, 64), np.int32)
            given[0, : len(tokens)] = tokens
            tokens.append(int(likeliest(small.parameters, given, len(tokens))))
        assert written == tokens[len(prompt) :]


def test_rows_do_not_depend_on_the_batch(torch_oracle: ModuleType, small: Small) -> None:
    how: dict[str, Any] = {"temperature": 1.0, "top_k": 20, "repetition_penalty": 1.3}
    together = small.write(prompts(), 20, batch=4, **how)
    assert together == [small.write([prompt], 20, **how)[0] for prompt in prompts()]
    assert len({tuple(row) for row in small.write(2 * prompts()[:1], 20, **how)}) == 2  # each time drawn anew
    assert small.write(prompts(), 20, batch=4, chunk=3, **how) == together


def test_the_whole_prompt_counts(torch_oracle: ModuleType, small: Small) -> None:
    prompt = prompts()[0][-6:]  # within the window
    changed = [(prompt[0] + 1) % 99, *prompt[1:]]
    assert small.write([prompt], 20) != small.write([changed], 20)


def test_rows_end_at_an_end_token_and_the_loop_with_the_last(torch_oracle: ModuleType, small: Small) -> None:
    free = small.write(prompts(), 20)
    ends = (free[0][4], free[1][2])
    expected = [row[: min([place for place, token in enumerate(row) if token in ends], default=20)] for row in free]
    assert small.write(prompts(), 20, ends=ends) == expected
    assert len(expected[0]) <= 4


def test_compiled_once_for_a_batch_and_a_bucket(torch_oracle: ModuleType) -> None:
    small = Small("gpt2")
    for temperature, length, num_tokens in ((0.5, 5, 12), (0.9, 7, 14), (0.7, 16, 3)):
        small.write([prompts()[1][:length]], num_tokens, temperature=temperature, chunk=4)
    assert small.decoding.begin._cache_size() == small.decoding.go_on._cache_size() == 1  # type: ignore[attr-defined]
    small.write([prompts()[1]], 12, temperature=0.5)
    assert small.decoding.go_on._cache_size() == 2  # type: ignore[attr-defined]


def test_sixteen_bits_are_rounded_as_in_training(torch_oracle: ModuleType) -> None:
    small = Small("gpt2", "bfloat16")
    tokens_1L = np.array([prompts()[1]], np.int32)
    model = small.definition.bind(small.parameters)
    expected_LD = model(tokens_1L, np.ones_like(tokens_1L), np.arange(23, dtype=np.int32)[None])[0]
    state = small.decoding.begin(
        small.weights,
        sampling.choice(99, temperature=0.0),
        *decode.padded(tokens_1L.tolist(), 1),
        writing.keys(0, tokens_1L.tolist()),
        np.zeros(0, np.int32),
        room=16,
    )
    keys_GMK = np.asarray(state.memories[0].keys_BGMK[0, :, :32])
    assert np.array_equal(keys_GMK, keys_GMK.astype(jnp.bfloat16).astype(np.float32))
    scores_V = np.asarray(model.head() @ expected_LD[-1])
    assert scores_V[int(state.tokens_BM[0, 32])] >= scores_V.max() - 0.02


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
@pytest.mark.parametrize("name", ["gpt2", pytest.param("gemma3", marks=pytest.mark.slow)])
def test_parameters_as_they_are_write_what_copies_write(torch_oracle: ModuleType, name: str, dtype: str) -> None:
    small = Small(name, dtype)
    copied = small.write(prompts(), 12)
    small.weights = decode.as_they_are(small.parameters)
    assert small.write(prompts(), 12) == copied


@pytest.mark.slow
def test_adapters_take_part(torch_oracle: ModuleType) -> None:
    small = Small("llama")
    adapted = lora.adapted(small.definition, config.Adapter(rank=3, targets=("query", "value", "down")))
    drawn = iter(jax.random.split(jax.random.key(2), 100))
    parameters = jax.tree.map(lambda leaf: 0.3 * jax.random.normal(next(drawn), leaf.shape), adapted.abstract)
    parameters = trees.replaced(parameters, small.parameters)
    free = small.write(prompts(), 12)
    small.definition, small.decoding = adapted, decode.make(adapted, MESH)
    small.weights = small.decoding.prepare(parameters)
    written = small.write(prompts(), 12)
    assert written != free
    model, tokens = adapted.bind(parameters), list(prompts()[0])
    for _ in range(12):
        given = np.array([tokens], np.int32)
        hidden_1LD = model(given, np.ones_like(given), np.arange(len(tokens), dtype=np.int32)[None])
        tokens.append(int(jnp.argmax(model.head() @ hidden_1LD[0, -1])))
    assert written[0] == tokens[len(prompts()[0]) :]
