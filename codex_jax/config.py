"""Every knob of the project, once: its name, default, meaning, unit and range.

A file in `configs/` starts from `default()` and changes what differs. `overrides.load()` adds those of the command line
and `resolve()` makes of it the frozen `Config` that the rest of the program reads; nothing else reads settings.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from codex_jax import schema
from codex_jax.errors import ConfigError
from codex_jax.schema import knob, section


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    seed: int = knob(0, "seed of every random stream: initial weights, dropout, data order, sampling", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    name: str = knob("gpt2", "architecture, by its name in the registry of model families")
    vocab_size: int = knob(50257, "rows of the token embedding; at least the tokenizer's vocabulary", low=2)
    context_length: int = knob(1024, "longest sequence the position embedding covers, in tokens", low=1)
    num_layers: int = knob(12, "number of transformer blocks", low=1)
    num_heads: int = knob(12, "attention heads in a block; divides model.width", low=1)
    width: int = knob(768, "size of the residual stream", low=1)
    dropout: float = knob(0.0, "probability of dropping an activation while training", low=0.0, high=0.99)
    compute_dtype: str = knob(
        "auto",
        "type of the operands of matrix products; sums, softmax and loss stay float32. auto: bfloat16 on accelerators, "
        "on a CPU only where it was measured to be faster",
        choices=("auto", "float32", "bfloat16"),
    )
    attention: str = knob(
        "auto",
        "attention kernel: xla runs everywhere, cudnn is the fused one of NVIDIA GPUs; auto takes the faster that fits",
        choices=("auto", "xla", "cudnn"),
    )
    remat: bool = knob(False, "recompute a block in the backward pass instead of keeping its activations")
    scan_unroll: int = knob(1, "blocks per iteration of the scan over layers; divides model.num_layers", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer:
    path: str = knob(
        "", "tokenizer.json, or a directory with one or with vocab.json and merges.txt; empty: train one on the data"
    )
    vocab_size: int = knob(8192, "vocabulary of the tokenizer trained on the data, in tokens", low=257)
    train_bytes: int = knob(
        8_000_000, "how much text of the training split that tokenizer is trained on, in bytes", low=1
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    source: str = knob(
        "",
        "kind of documents: stdlib, text, jsonl, csv or parquet; empty: stdlib without paths, else by their suffix",
    )
    paths: tuple[str, ...] = knob((), "files, globs or directories to train on, separated by commas")
    validation_paths: tuple[str, ...] = knob((), "files to validate on; empty: a share of the documents of data.paths")
    validation_fraction: float = knob(
        0.05, "share of documents held out, chosen by a hash of their content", low=0.0, high=0.5
    )
    test_fraction: float = knob(
        0.0, "share of documents kept out of training and validation, for a last test", low=0.0, high=0.5
    )
    seed: int = knob(-1, "seed of the order of the data; -1: the variable CODEX_DATA_SEED, else run.seed", low=-1)
    text_field: str = knob("text", "field of a row that holds the document, where it is text alone")
    prompt_field: str = knob("prompt", "field of a row that holds an instruction; never learnt")
    completion_field: str = knob("completion", "field of a row that holds the answer to data.prompt_field")
    messages_field: str = knob("messages", "field of a row that holds a chat: a list of objects with role and content")
    chat_template: str = knob("", "file with the jinja template of chats; empty: the one of the tokenizer")
    prompt_separator: str = knob("\n", "what is put between an instruction and its answer")
    sequence_length: int = knob(1024, "length of a row of a batch, in tokens", low=2)
    isolate_documents: bool = knob(True, "keep attention and loss inside each document of a packed row")
    document_bytes: int = knob(16_384, "a text file is cut at line ends into documents of about this size", low=64)
    max_line_bytes: int = knob(4_194_304, "a longer row is quarantined, in bytes", low=64)
    max_quarantined: float = knob(
        0.01, "training stops when a larger share of the documents read could not be read", low=0.0, high=1.0
    )
    window_bytes: int = knob(
        2_097_152, "text read, packed and shuffled together; bounds the memory of the pipeline", low=1024
    )
    encode_chunk_size: int = knob(256, "most pieces of text handed to the tokenizer in one call", low=1)
    workers: int = knob(0, "processes that prepare windows; 0 does it in a thread of this process", low=0)
    prefetch_batches: int = knob(2, "batches prepared ahead of the step", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Safety:
    enabled: bool = knob(True, "redact secrets and personal data before text is tokenised; off is recorded as a bypass")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: float = knob(6e-4, "peak learning rate of AdamW", low=0.0)
    final_learning_rate: float = knob(6e-5, "learning rate the cosine ends at", low=0.0)
    warmup_steps: int = knob(0, "steps of linear warm-up from zero, before the cosine", low=0)
    beta1: float = knob(0.9, "decay of the first moment", low=0.0, high=0.9999)
    beta2: float = knob(0.95, "decay of the second moment", low=0.0, high=0.99999)
    epsilon: float = knob(1e-8, "added to the root of the second moment", low=1e-20)
    weight_decay: float = knob(0.1, "decoupled weight decay of kernels and embeddings", low=0.0)
    clip_norm: float = knob(1.0, "largest global norm of the gradient; 0 does not clip", low=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    num_steps: int = knob(1000, "number of updates", low=1)
    global_batch_size: int = knob(8, "rows an update learns from, over all devices", low=1)
    microbatch_size: int = knob(0, "rows of one forward and backward pass; 0: all of the batch at once", low=0)
    loss_chunk: int = knob(1024, "tokens whose logits exist at one time, on each device", low=1)
    log_every: int = knob(10, "steps between progress lines and rows of the ledger", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel:
    data: int = knob(0, "devices that share the batch, each with all parameters; 0: all that are left", low=0)
    fsdp: int = knob(1, "devices that share the batch and the parameters", low=1)
    tensor: int = knob(1, "devices that share each matrix product", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    every_steps: int = knob(100, "steps between checkpoints; the last step is always saved", low=1)
    keep_last: int = knob(2, "newest checkpoints to keep", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
    every_steps: int = knob(100, "steps between evaluations; the last step is always evaluated", low=1)
    num_batches: int = knob(8, "batches of validation data in an evaluation, the same ones each time", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate:
    prompt: str = knob("def ", "text that each sample continues")
    num_tokens: int = knob(48, "length of a sample, in tokens", low=1)
    temperature: float = knob(0.8, "divides the logits; 0 takes the likeliest token", low=0.0)
    top_k: int = knob(50, "sample among this many likeliest tokens; 0: among all", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Csv:
    enabled: bool = knob(True, "copy the ledger to metrics.csv, one value a line")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensorboard:
    enabled: bool = knob(True, "copy the ledger to tensorboard/")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlflow:
    enabled: bool = knob(False, "copy the ledger to mlflow.db, a local MLflow store")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wandb:
    enabled: bool = knob(False, "copy the ledger to wandb/, an offline W&B run")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking:
    csv: Csv = section(Csv)
    tensorboard: Tensorboard = section(Tensorboard)
    mlflow: Mlflow = section(Mlflow)
    wandb: Wandb = section(Wandb)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    run: Run = section(Run)
    model: Model = section(Model)
    tokenizer: Tokenizer = section(Tokenizer)
    data: Data = section(Data)
    safety: Safety = section(Safety)
    optimizer: Optimizer = section(Optimizer)
    train: Train = section(Train)
    parallel: Parallel = section(Parallel)
    checkpoint: Checkpoint = section(Checkpoint)
    eval: Eval = section(Eval)
    generate: Generate = section(Generate)
    tracking: Tracking = section(Tracking)


def default() -> ConfigDict:
    """Return every knob at its default, locked: a file in `configs/` changes values, it adds no key."""
    return ConfigDict(dataclasses.asdict(Config())).lock()


def to_dict(config: Config) -> dict[str, Any]:
    """Return the settings as nested plain values, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def resolve(settings: Mapping[str, Any]) -> Config:
    """Check settings, nested or by dotted name, and return the frozen tree; ConfigError lists every violation."""
    given = dict(schema.flatten(settings))
    known = {name: (field, kind) for name, field, kind in schema.walk(Config)}
    problems = [f"unknown key {name}{schema.nearest(name, list(known))}" for name in given if name not in known]
    problems += [f"missing key {name}" for name in known if name not in given]
    values = {}
    for name, (field, kind) in known.items():
        if name in given:
            value, wrong = schema.check(name, given[name], field, kind)
            problems += wrong
            if not wrong:
                values[name] = value
    problems += _contradictions(values)
    if problems:
        raise ConfigError(listing(problems))
    return schema.build(Config, values)


def listing(problems: list[str]) -> str:
    """Return the message of a ConfigError that names all problems."""
    head = (
        "the configuration has a mistake:" if len(problems) == 1 else f"the configuration has {len(problems)} mistakes:"
    )
    return "\n".join([head, *(f"  {problem}" for problem in problems)])


class _Rule(NamedTuple):
    """What must hold between values that are each right alone."""

    names: tuple[str, ...]
    holds: Callable[..., bool]
    """of the values of those names"""
    says: str
    """when it does not hold, with the values in their order"""


# `sharding` checks what depends on the devices.
_RULES = (
    _Rule(
        ("model.width", "model.num_heads"),
        lambda width, heads: width % heads == 0,
        "model.width={} is not a multiple of model.num_heads={}",
    ),
    _Rule(
        ("model.scan_unroll", "model.num_layers"),
        lambda unroll, layers: layers % unroll == 0,
        "model.scan_unroll={} does not divide model.num_layers={}",
    ),
    _Rule(
        ("data.sequence_length", "model.context_length"),
        lambda length, context: length <= context,
        "data.sequence_length={} is longer than model.context_length={}",
    ),
    _Rule(
        ("train.microbatch_size", "train.global_batch_size"),
        lambda microbatch, batch: batch % (microbatch or batch) == 0,
        "train.microbatch_size={} does not divide train.global_batch_size={}",
    ),
    _Rule(
        ("optimizer.final_learning_rate", "optimizer.learning_rate"),
        lambda final, peak: final <= peak,
        "optimizer.final_learning_rate={} is above optimizer.learning_rate={}",
    ),
    _Rule(
        ("generate.num_tokens", "model.context_length"),
        lambda tokens, context: tokens < context,
        "generate.num_tokens={} leaves no room for a prompt in model.context_length={}",
    ),
    _Rule(
        ("data.validation_fraction", "data.validation_paths"),
        lambda fraction, paths: bool(paths) or fraction > 0,
        "data.validation_fraction={:g} leaves nothing to validate on: raise it or name data.validation_paths",
    ),
    _Rule(
        ("data.test_fraction", "data.validation_paths"),
        lambda fraction, paths: not paths or not fraction,
        "data.test_fraction={:g} is a share of data.paths, all of which are trained on with data.validation_paths: "
        "leave one of them out",
    ),
    _Rule(
        ("data.source", "data.paths"),
        lambda source, paths: bool(paths) or source.lower() in ("", "stdlib"),
        "data.source={} reads files: name them in data.paths",
    ),
    _Rule(
        ("data.source", "data.paths"),
        lambda source, paths: not paths or source.lower() != "stdlib",
        "data.source={} reads no data.paths: leave one of them out",
    ),
)


def _contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong between values; `values` has only those that are right alone."""
    for names, holds, says in _RULES:
        found = [values[name] for name in names if name in values]
        if len(found) == len(names) and not holds(*found):
            yield says.format(*found)
