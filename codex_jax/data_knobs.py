"""Every knob of what is learnt from: tokenizer, data and safety; `knobs` has the others."""

import dataclasses
from collections.abc import Mapping

from codex_jax.schema import knob, sections


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer:
    name: str = knob("", "a tokenizer that is on this machine, by name: gpt2 or tinyllama; empty: of path, or trained")
    path: str = knob("", "files of a tokenizer; empty: where the environment has that of tokenizer.name, or train one")
    kind: str = knob(
        "", "hf, sentencepiece, gpt2, byte or whitespace; empty: what lies at the path, or hf where one is trained"
    )
    algorithm: str = knob("unigram", "how a tokenizer of kind sentencepiece is trained", choices=("unigram", "bpe"))
    vocab_size: int = knob(8192, "vocabulary of the tokenizer trained on the data, in tokens", low=257)
    train_bytes: int = knob(
        8_000_000, "how much text of the training split that tokenizer is trained on, in bytes", low=1
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where documents come from, and what of a row is one."""

    source: str = knob(
        "",
        "kind of documents: stdlib, text, jsonl, csv, parquet, arrayrecord, arrow or hf; empty: stdlib without paths, "
        "else by their suffix",
    )
    paths: tuple[str, ...] = knob((), "files, globs or directories to train on, separated by commas")
    validation_paths: tuple[str, ...] = knob((), "files to validate on; empty: a share of the documents of data.paths")
    split_name: str = knob("", "split of a dataset of source hf that has several; empty: the only one, or train")
    document: str = knob(
        "piece",
        "what a document of a text file is: a piece of about data.document_bytes, a line, or the whole file",
        choices=("piece", "line", "file"),
    )
    text_field: str = knob("text", "field of a row that holds a text; empty: each record of an ArrayRecord file is one")
    prompt_field: str = knob("prompt", "field of a row that holds an instruction; never learnt")
    completion_field: str = knob("completion", "field of a row that holds the answer to the instruction")
    messages_field: str = knob("messages", "field of a row that holds a chat: a list of objects with role and content")
    label_field: str = knob("label", "field of a row that holds the class of its text, with data.objective=classes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingredient(Origin):
    weight: float = knob(
        0.0,
        "share of the bytes read, beside the weights of the others; 0 for all: as large as they are",
        low=0.0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Origin):
    mix: Mapping[str, Ingredient] = sections(Ingredient)
    validation_fraction: float = knob(
        0.05, "share of documents held out, chosen by a hash of their content", low=0.0, high=0.5
    )
    test_fraction: float = knob(
        0.0, "share of documents kept out of training and validation, for a last test", low=0.0, high=0.5
    )
    duplicates: str = knob(
        "drop",
        "what becomes of a training document that lies in a file of validation_paths, too: left out, trained on, or "
        "training is refused; counted in any case",
        choices=("drop", "keep", "fail"),
    )
    seed: int = knob(-1, "seed of the order of the data; -1: the variable CODEX_DATA_SEED, else run.seed", low=-1)
    chat_template: str = knob("", "file with the jinja template of chats; empty: the one of the tokenizer")
    prompt_separator: str = knob("\n", "what is put between an instruction and its answer")
    mode: str = knob(
        "stream",
        "stream: tokenise while training; store: tokenise once, into files that every later run and host reads",
        choices=("stream", "store"),
    )
    store: str = knob("", "directory of the store; empty: one in the cache, named after what it holds")
    objective: str = knob(
        "causal",
        "what is learnt of a row: causal, the token that follows; masked, tokens that were hidden, as encoders do; "
        "classes, which of data.labels a text is",
        choices=("causal", "masked", "classes"),
    )
    labels: tuple[str, ...] = knob(
        (),
        "names of the classes of data.objective=classes, in their order; empty: those of weights that end in classes",
    )
    sequence_length: int = knob(1024, "length of a row of a batch, in tokens", low=2)
    packing: str = knob(
        "concat",
        "concat: cut rows from documents one after the other; first_fit: keep a document whole where a row can hold it",
        choices=("concat", "first_fit"),
    )
    isolate_documents: bool = knob(True, "keep attention and loss inside each document of a packed row")
    document_bytes: int = knob(16_384, "a text file is cut at line ends into documents of about this size", low=64)
    max_line_bytes: int = knob(4_194_304, "a longer row is quarantined, in bytes", low=64)
    max_quarantined: float = knob(
        0.01, "training stops when a larger share of the documents read could not be read", low=0.0, high=1.0
    )
    max_expansion: float = knob(
        200.0, "a compressed file is read no further where it grows to more than so many times its size", low=1.0
    )
    window_bytes: int = knob(
        2_097_152, "text read, packed and shuffled together; bounds the memory of the pipeline", low=1024
    )
    encode_chunk_size: int = knob(256, "most pieces of text handed to the tokenizer in one call", low=1)
    workers: int = knob(0, "processes that prepare windows; 0 does it in a thread of this process", low=0)
    prefetch_batches: int = knob(2, "batches prepared ahead of the step", low=0)
    max_wait_secs: float = knob(
        300.0,
        "a batch, or more of a shard of a store, must come within so many seconds, or it ends; 0: any time",
        low=0.0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Safety:
    enabled: bool = knob(True, "examine every text by the policy; false lets all through as it is, and needs a reason")
    policy: str = knob("", "file of rules, YAML, JSON or a gitleaks.toml; empty: those that come with the package")
    on_block: str = knob(
        "quarantine",
        "what becomes of a document that a rule blocks: it is left out and counted, or training stops",
        choices=("quarantine", "stop"),
    )
    classifier: str = knob("", "module:function(text, stage) of your own; what it does not call true is blocked")
    bypass: bool = knob(False, "let blocked texts through, what is redacted stays redacted; needs a reason")
    bypass_reason: str = knob("", "why safety is off or bypassed; recorded wherever the run is")
