"""What each part of the program makes of some settings: seen in the program itself, nothing is replaced."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil

from codex_jax import changes, config, sharding, watchdog
from codex_jax.changes import Change
from codex_jax.checkpoint import document, manifest, retention, saving
from codex_jax.checkpoint.occasions import Occasions
from codex_jax.checkpoint.retention import Rules
from codex_jax.data import pipeline, stores
from codex_jax.errors import CodexError, ConfigError
from codex_jax.generation import samples
from codex_jax.hosts import join
from codex_jax.journal import health
from codex_jax.journal.totals import Totals
from codex_jax.models import build
from codex_jax.run import site
from codex_jax.safety import gate
from codex_jax.tokenizers import training
from codex_jax.tokenizers.tokenizer import JsonTokenizer
from codex_jax.tracking import registry
from codex_jax.tracking.writer import Nowhere
from codex_jax.training import beginning, masking
from codex_jax.training import program as training_program


SMALL: dict[str, Any] = {
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.width": 16,
    "model.vocab_size": 320,
    "model.context_length": 32,
    "model.compute_dtype": "float32",
    "model.attention": "xla",
    "tokenizer.vocab_size": 300,
    "data.paths": ("texts",),
    "data.sequence_length": 16,
    "data.document_bytes": 128,
    "data.window_bytes": 4096,
    "data.validation_fraction": 0.2,
    "train.num_steps": 6,
    "train.global_batch_size": 8,
    "eval.num_batches": 2,
    "generate.num_tokens": 12,
    "checkpoint.every_steps": 2,
    "optimizer.warmup_steps": 2,
}


MESH = jax.make_mesh(
    (1, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,) * 3
)


class Recorder(JsonTokenizer):
    """A tokenizer that remembers how many texts it was given in its first call."""

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[np.ndarray]:
        self.__dict__.setdefault("first", len(texts))
        return super().encode(texts, special=special)


def resolve(changes: Mapping[str, Any]) -> config.Config:
    """Return SMALL with some keys changed."""
    nested = config.default().to_dict()
    for name, value in {**SMALL, **changes}.items():
        *parents, last = name.split(".")
        section = nested
        for parent in parents:
            section = section[parent]
        section[last] = value
    return config.resolve(nested)


def program(settings: config.Config, prepare: masking.Prepare = masking.as_is) -> str:
    """The update as it is given to the compiler."""
    made = training_program.make(settings, MESH, prepare)
    shape = (settings.train.global_batch_size, settings.data.sequence_length)
    ints, floats = jax.ShapeDtypeStruct(shape, np.int32), jax.ShapeDtypeStruct(shape, np.float32)
    batch, index = (ints, ints, floats, ints, ints), jax.ShapeDtypeStruct((), np.int32)
    return made.update.lower(made.target, made.frozen, batch, index).as_text()  # type: ignore[attr-defined]


def masked_program(settings: config.Config) -> str:
    """The update of an encoder, which hides tokens."""
    letters = "the model learns to guess tokens that are hidden " * 9
    return program(settings, masking.make(settings, training.train([letters], 60, kind="wordpiece")))


def kept(settings: config.Config) -> list[int]:
    """Return which of eight checkpoints stay; loss and perplexity are not of one mind about the best."""
    with tempfile.TemporaryDirectory() as directory:
        for step in range(1, 9):
            place = Path(directory) / str(step)
            place.mkdir()
            meta = {"evaluation": {"loss": abs(step - 3.0), "perplexity": abs(step - 5.0)}}
            document.write(place, document.make(step, {}, {}, meta))
            manifest.write(place)
        return list(retention.apply(Path(directory), retention.rules(settings.checkpoint), {}).stays)


def sinks(settings: config.Config) -> Any:
    """Return the names of the sinks a run would have, or why it cannot have them."""
    try:
        return list(registry.chosen(settings.tracking))
    except ConfigError as error:
        return str(error)


def refusal(settings: config.Config) -> str:
    """What is said when the model or the mesh cannot be made."""
    try:
        build.define(settings.model)
        return str(sharding.make_mesh(settings.parallel).shape)
    except CodexError as error:
        return str(error)


def decided(settings: config.Config) -> Any:
    """What the settings become when nothing is left open, or what is said against them."""
    try:
        return beginning.decided(Path("no run"), settings)
    except CodexError as error:
        return str(error)


def meeting(settings: config.Config) -> str:
    """What is said when the other processes do not come."""
    try:
        with join.join(settings.parallel, lambda: None):
            return "met"
    except CodexError as error:
        return str(error)


def failing_save(settings: config.Config) -> str:
    """What becomes of a save without a directory, when the next one succeeds."""
    root, state = Path("failing"), {"one": jax.numpy.ones(3)}
    with saving.Checkpointer(root, Rules(1), lambda *_: None, policy=saving.policy(settings.checkpoint)) as saver:
        shutil.rmtree(root)
        try:
            saver.save(1, state, {}, {})
        except CodexError as error:
            return str(error)
        root.mkdir()
        saver.save(2, state, {}, {})
    shutil.rmtree(root)
    return "went on"


HANGING = """
import sys, threading
from codex_jax.watchdog import Watchdog
Watchdog().begin("a save", float(sys.argv[1]), "checkpoint.max_secs")
threading.Event().wait(1.0)
"""


def hanging_save(settings: config.Config) -> int:
    """The exit code of a process whose save takes a second."""
    limit = saving.policy(settings.checkpoint).max_secs
    return subprocess.run([sys.executable, "-c", HANGING, str(limit)], capture_output=True).returncode


def opened(settings: config.Config) -> pipeline.Mixture:
    """The corpora of settings, under the gate of these settings."""
    return pipeline.open_mixture(settings.data, gate.of(settings.safety))


def tokenizer(settings: config.Config) -> str:
    return pipeline.make_tokenizer(settings, opened(settings)).digest


def open_stream(settings: config.Config) -> Any:
    mixture = opened(settings)
    made = pipeline.make_tokenizer(settings, mixture)
    if settings.data.mode == "store":
        stores.make(settings, mixture, made)
    return pipeline.train_stream(settings, mixture, made, settings.train.global_batch_size)


def stored_in(settings: config.Config) -> str:
    """Where the store is built."""
    mixture = opened(settings)
    return str(stores.make(settings, mixture, pipeline.make_tokenizer(settings, mixture))[0].directory)


def batches(settings: config.Config) -> str:
    """A digest of the first two batches."""
    stream, digest = open_stream(settings), hashlib.sha256()
    for batch in (next(stream), next(stream)):
        for array in batch:
            digest.update(str(array.shape).encode() + array.tobytes())
    stream.close()
    return digest.hexdigest()


def quarantine(settings: config.Config) -> str:
    """How the first batch comes: with which rows put aside, or not at all."""
    stream = open_stream(settings)
    try:
        next(stream)
        return str([row for report in stream.take_reports() for row in report.rows])
    except CodexError as error:
        return str(error)
    finally:
        stream.close()


def judge(text: str, stage: str) -> bool:
    """A classifier that lets through what is short."""
    return len(text) < 100


released = threading.Event()
released.set()


def wait(text: str, stage: str) -> bool:
    """A classifier that hangs until it is released."""
    return released.wait()


def patience(settings: config.Config) -> str:
    """What is said when no batch comes."""
    stream = open_stream(settings)
    released.clear()
    try:
        next(stream)
        return "a batch"
    except CodexError as error:
        return str(error)
    finally:
        released.set()
        stream.close()


def step_limit(settings: config.Config) -> str:
    """What is said of a step that hangs."""
    said, ended = [""], threading.Event()
    watch = watchdog.Watchdog(end=lambda code: ended.set())
    watch.tell = lambda message: said.append(message.rpartition(", since ")[0])
    with site.limited(watch, settings.train, "step 1", compiles=False):
        ended.wait()
    return said[-1]


def counts(settings: config.Config) -> str:
    """What became of the documents of the first window."""
    stream = open_stream(settings)
    next(stream)
    (report,) = stream.take_reports()
    stream.close()
    return str((report.trained, report.blocked, report.safety))


def processes(settings: config.Config) -> int:
    """How many processes prepare windows."""
    stream = open_stream(settings)
    next(stream)
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    stream.close()
    return sum("spawn_main" in command for command in commands)


def is_ahead(settings: config.Config) -> bool:
    """Whether batches are cut before they are asked for."""
    stream = open_stream(settings)
    next(stream)
    deadline = time.monotonic() + 2
    while not (ahead := stream._batches.get_state() != stream._position) and time.monotonic() < deadline:
        time.sleep(0.01)
    stream.close()
    return ahead


def texts_at_once(settings: config.Config) -> int:
    """How many texts of the first window the tokenizer gets in one call."""
    mixture = opened(settings)
    made = pipeline.make_tokenizer(settings, mixture)
    assert isinstance(made, JsonTokenizer)
    recorder = Recorder(made._inner, made.roles)
    stream = pipeline.train_stream(settings, mixture, recorder, settings.train.global_batch_size)
    next(stream)
    stream.close()
    return recorder.first


def validation(settings: config.Config) -> list[bytes]:
    mixture = opened(settings)
    made = pipeline.make_tokenizer(settings, mixture)
    found, _ = pipeline.validation_batches(settings, mixture, made, settings.train.global_batch_size)
    return [batch.tokens_BL.tobytes() for batch in found]


def sample(settings: config.Config) -> str:
    corpus = opened(settings)
    made = pipeline.make_tokenizer(settings, corpus)
    held_out, _ = pipeline.validation_batches(settings, corpus, made, settings.train.global_batch_size)
    parameters = jax.jit(lambda: build.initial(settings.model, jax.random.key(0)))()
    asked = gate.of(settings.safety).examine(settings.generate.prompt, "prompt")
    draw = samples.make(settings, build.define(settings.model), MESH, made, asked, held_out[0].opening())
    return draw(parameters, jax.random.key(1), lambda: None)


class Listener(Nowhere):
    """A writer that remembers its events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, name: str, step: int, fields: Mapping[str, Any]) -> None:
        self.events.append(f"{name} at {step}: {dict(fields)}")


def verdicts(settings: config.Config) -> list[str]:
    """What is written down of losses that jump, and how that ends."""
    listener = Listener()
    watched = health.Health(listener, settings.train, Totals(), [])
    try:
        for number, loss in enumerate([2.0, 2.1] * 65 + [9.0]):
            watched.judge(number + 1, number, loss)
    except (CodexError, health.GoBack) as end:
        listener.events.append(type(end).__name__)
    return listener.events


def asks_to_save(settings: config.Config) -> int:
    """What is asked for when a tenth of a second has passed since the last save."""
    occasions = Occasions(Path("nowhere"), Path("nowhere"), settings.checkpoint, lambda decide: decide())
    time.sleep(0.1)
    return occasions.request()


def lets_through(settings: config.Config) -> str:
    """What is said when the run goes on with another seed."""
    try:
        changes.refuse({"run.seed": Change(0, 1)}, settings.checkpoint.allow_change, ConfigError, "", "")
        return "nothing"
    except ConfigError as error:
        return str(error)


def ends(settings: config.Config) -> str:
    """What is said of a run that got no better in two evaluations."""
    return health.ended_early(settings, Totals(best=1.0, evaluations_since_best=2))
