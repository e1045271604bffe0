"""Every key of the configuration does something: changed, it changes what its observer sees of the real program."""

import gzip
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import copies
import jax
import observers
import pytest
import small_run
import small_weights

from codex_jax import config, schema, train
from codex_jax.data import pipeline
from codex_jax.signals import StopRequest
from codex_jax.tracking import calls, ledger


pytestmark = pytest.mark.infra

ROWS = {"data.paths": ("rows.jsonl",)}
PAIRS = {"data.paths": ("pairs.jsonl",)}
CHATS = {"data.paths": ("chats.jsonl",), "data.chat_template": "template.jinja"}
# Four of 204 rows cannot be read.
BLOCKING = {"safety.policy": "policy.yaml"}
BROKEN = {"data.paths": ("broken.jsonl",), "data.window_bytes": 1_000_000}
CLASSES = {"data.paths": ("labelled.jsonl",), "data.objective": "classes", "data.labels": ("even", "odd")}
MASKED = {"model.name": "all-minilm-l6-v2", "model.ending": "hidden", "data.objective": "masked"}
# Process 1 of two; nobody is at port 1.
UNMET = {
    "parallel.coordinator": "localhost:1",
    "parallel.num_processes": 2,
    "parallel.process_index": 1,
    "parallel.wait_secs": 0.1,
}
# Sizes are those of the weights.
ON_WEIGHTS = {
    "model.weights": "base_weights",
    **dict.fromkeys(("model.num_layers", "model.num_heads", "model.width", "model.context_length"), 0),
}
ADAPTED = {**ON_WEIGHTS, "adapter.rank": 3}
AWAY = {"tracking.mlflow.enabled": True, "tracking.mlflow.uri": "http://10.0.0.1"}
BEST = {"checkpoint.keep_best": 1, "checkpoint.keep_last": 1}
FREE_PORT = {"parallel.coordinator": f"localhost:{small_run.free_port()}"}


class Effect(NamedTuple):
    """Another value of a key, who sees it, and what else differs from SMALL both times."""

    value: Any
    observe: Callable[[config.Config], Any]
    base: Mapping[str, Any] = {}


EFFECTS: dict[str, Effect] = {
    "run.seed": Effect(1, observers.batches),
    "model.name": Effect("gpt2-offline", observers.refusal),
    "model.architecture": Effect('{"model_type": "gtp2"}', observers.refusal),
    "model.weights": Effect("nowhere", observers.refusal),
    "model.num_kv_heads": Effect(1, observers.refusal),
    "model.head_dim": Effect(4, observers.refusal),
    "model.mlp_width": Effect(48, observers.program),
    "model.ending": Effect("classes", observers.refusal),
    "model.vocab_size": Effect(384, observers.program),
    "model.context_length": Effect(64, observers.program),
    "model.num_layers": Effect(4, observers.program),
    "model.num_heads": Effect(4, observers.program),
    "model.width": Effect(32, observers.program),
    "model.dropout": Effect(0.1, observers.program),
    "model.compute_dtype": Effect("bfloat16", observers.program),
    "model.attention": Effect("cudnn", observers.refusal),
    "model.remat": Effect(True, observers.program),
    "model.scan_unroll": Effect(2, observers.program),
    "adapter.rank": Effect(2, observers.program, ON_WEIGHTS),
    "adapter.alpha": Effect(8.0, observers.program, ADAPTED),
    "adapter.rslora": Effect(True, observers.program, ADAPTED),
    "adapter.dropout": Effect(0.1, observers.program, ADAPTED),
    "adapter.targets": Effect(("mlp/",), observers.program, ADAPTED),
    "adapter.weights": Effect("nowhere", observers.decided, ON_WEIGHTS),
    "quantization.mode": Effect("nf4", observers.program, ADAPTED),
    "quantization.targets": Effect(("mlp/",), observers.program, {**ADAPTED, "quantization.mode": "int8"}),
    "tokenizer.name": Effect("gpt2", observers.tokenizer),
    "tokenizer.kind": Effect("byte", observers.tokenizer),
    "tokenizer.algorithm": Effect(
        "bpe", observers.tokenizer, {"tokenizer.kind": "sentencepiece", "tokenizer.vocab_size": 400}
    ),
    "tokenizer.path": Effect("saved_tokenizer", observers.tokenizer),
    "tokenizer.vocab_size": Effect(290, observers.tokenizer),
    "tokenizer.train_bytes": Effect(500, observers.tokenizer),
    "data.source": Effect("text", observers.batches, ROWS),
    "data.paths": Effect(("others",), observers.batches),
    "data.validation_paths": Effect(("others",), observers.validation),
    "data.validation_fraction": Effect(0.4, observers.validation),
    "data.mode": Effect("store", observers.batches),
    "data.store": Effect("elsewhere", observers.stored_in, {"data.mode": "store"}),
    "data.test_fraction": Effect(0.4, observers.batches),
    "data.duplicates": Effect(
        "keep", observers.batches, {"data.paths": ("texts", "others"), "data.validation_paths": ("others",)}
    ),
    "data.seed": Effect(7, observers.batches),
    "data.text_field": Effect("title", observers.batches, ROWS),
    "data.prompt_field": Effect("title", observers.batches, PAIRS),
    "data.completion_field": Effect("title", observers.batches, PAIRS),
    "data.prompt_separator": Effect(" = ", observers.batches, PAIRS),
    "data.messages_field": Effect("turns", observers.batches, CHATS),
    "data.chat_template": Effect("other.jinja", observers.batches, CHATS),
    "data.objective": Effect("masked", observers.batches),
    "data.labels": Effect(("odd", "even"), observers.batches, CLASSES),
    "data.label_field": Effect("other", observers.batches, CLASSES),
    "data.sequence_length": Effect(8, observers.batches),
    "data.packing": Effect("first_fit", observers.batches),
    "data.isolate_documents": Effect(False, observers.batches),
    "data.split_name": Effect("test", observers.batches, {"data.source": "hf", "data.paths": ("copy",)}),
    "data.document": Effect("line", observers.batches),
    "data.document_bytes": Effect(256, observers.batches),
    "data.max_line_bytes": Effect(
        500, observers.quarantine, {"data.paths": ("long.jsonl",), "data.window_bytes": 1_000_000}
    ),
    "data.max_expansion": Effect(
        1e6, observers.quarantine, {"data.paths": ("swollen.jsonl.gz",), "data.window_bytes": 100_000_000}
    ),
    "data.max_quarantined": Effect(0.5, observers.quarantine, BROKEN),
    "data.window_bytes": Effect(8192, observers.batches),
    "data.encode_chunk_size": Effect(3, observers.texts_at_once),
    "data.workers": Effect(1, observers.processes),
    "data.prefetch_batches": Effect(0, observers.is_ahead),
    "data.max_wait_secs": Effect(
        0.6, observers.patience, {"data.max_wait_secs": 0.4, "safety.classifier": "observers:wait"}
    ),
    "safety.enabled": Effect(False, observers.batches, {"safety.bypass_reason": "a test"}),
    "safety.policy": Effect("policy.yaml", observers.batches),
    "safety.on_block": Effect("stop", observers.quarantine, BLOCKING),
    "safety.classifier": Effect("observers:judge", observers.counts),
    "optimizer.learning_rate": Effect(1e-3, observers.program),
    "optimizer.final_learning_rate": Effect(1e-4, observers.program),
    "optimizer.warmup_steps": Effect(3, observers.program),
    "optimizer.beta1": Effect(0.8, observers.program),
    "optimizer.beta2": Effect(0.99, observers.program),
    "optimizer.epsilon": Effect(1e-6, observers.program),
    "optimizer.weight_decay": Effect(0.2, observers.program),
    "optimizer.clip_norm": Effect(0.5, observers.program),
    "train.num_steps": Effect(8, observers.program),
    "train.global_batch_size": Effect(16, observers.program),
    "train.microbatch_size": Effect(4, observers.program),
    "train.loss_chunk": Effect(32, observers.program),
    "train.masked_fraction": Effect(0.3, observers.masked_program, MASKED),
    "train.mask_fraction": Effect(0.5, observers.masked_program, MASKED),
    "train.random_fraction": Effect(0.2, observers.masked_program, MASKED),
    "train.trainable": Effect(("norm/",), observers.program, ON_WEIGHTS),
    "train.freeze_layers": Effect(1, observers.program),
    "train.max_nonfinite": Effect(1, observers.program),
    "train.spike_factor": Effect(4.0, observers.verdicts),
    "train.spike_window": Effect(3, observers.verdicts, {"train.spike_factor": 100.0}),
    "train.max_rewinds": Effect(1, observers.verdicts, {"train.spike_factor": 4.0}),
    "train.spike_batches": Effect(2, observers.verdicts, {"train.spike_factor": 4.0, "train.max_rewinds": 1}),
    "train.max_step_secs": Effect(0.6, observers.step_limit, {"train.max_step_secs": 0.4}),
    "parallel.data": Effect(4, observers.refusal),
    "parallel.fsdp": Effect(2, observers.refusal),
    "parallel.tensor": Effect(2, observers.refusal),
    "parallel.deterministic_reduction": Effect(4, observers.program),
    "parallel.coordinator": Effect("localhost:2", observers.meeting, UNMET),
    "parallel.num_processes": Effect(3, observers.meeting, {**UNMET, "parallel.process_index": 0, **FREE_PORT}),
    "parallel.process_index": Effect(0, observers.meeting, {**UNMET, **FREE_PORT}),
    "parallel.wait_secs": Effect(0.2, observers.meeting, UNMET),
    "checkpoint.every_minutes": Effect(0.001, observers.asks_to_save),
    "checkpoint.allow_change": Effect(("run.seed",), observers.lets_through),
    "eval.patience": Effect(2, observers.ends),
    "checkpoint.keep_every": Effect(4, observers.kept),
    "checkpoint.keep_best": Effect(1, observers.kept),
    "checkpoint.best_metric": Effect("perplexity", observers.kept, BEST),
    "checkpoint.best_mode": Effect("max", observers.kept, BEST),
    "checkpoint.on_failure": Effect("go_on", observers.failing_save),
    "checkpoint.max_secs": Effect(0.2, observers.hanging_save),
    "eval.num_batches": Effect(1, observers.validation),
    "generate.prompt": Effect("the model", observers.sample),
    "generate.num_tokens": Effect(6, observers.sample),
    "generate.temperature": Effect(0.0, observers.sample),
    "generate.top_k": Effect(1, observers.sample),
    "generate.top_p": Effect(0.01, observers.sample),
    "generate.min_p": Effect(0.99, observers.sample),
    "generate.repetition_penalty": Effect(5.0, observers.sample, {"generate.temperature": 0.0}),
    "generate.stop": Effect(("e",), observers.sample),
    "tracking.allow_remote": Effect(True, observers.sinks, AWAY),
    "tracking.plugins": Effect(("nowhere",), observers.sinks),
    "tracking.mlflow.uri": Effect("http://10.0.0.1", observers.sinks, {"tracking.mlflow.enabled": True}),
    "tracking.wandb.mode": Effect("online", observers.sinks, {"tracking.wandb.enabled": True}),
}


def steps_of(name: str, **fields: str) -> Callable[[Path], Any]:
    def observe(workdir: Path) -> list[int]:
        rows = ledger.read(workdir / name)
        return [row["step"] for row in rows if all(row[field] == value for field, value in fields.items())]

    return observe


def has(name: str) -> Callable[[Path], Any]:
    return lambda workdir: (workdir / name).exists()


def mlflow_has(sql: str, value: str) -> Callable[[Path], Any]:
    return lambda workdir: (workdir / "mlflow.db").exists() and (value,) in copies.query(workdir / "mlflow.db", sql)


def wandb_has(field: str, value: Any) -> Callable[[Path], Any]:
    def observe(workdir: Path) -> bool:
        (run,) = [one.run for one in copies.wandb_records(workdir) if one.run.run_id] or [None]
        found = getattr(run, field, None)
        return (found if isinstance(found, str | None) else list(found)) == value

    return lambda workdir: (workdir / "wandb").exists() and observe(workdir)


# Seen in what a whole run leaves. All of them are changed in one run, so none may be seen through another's effect.
IN_A_RUN: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "train.log_every": (2, steps_of(ledger.METRICS, split="train")),
    "eval.every_steps": (3, steps_of(ledger.METRICS, split="validation")),
    "checkpoint.every_steps": (3, steps_of(ledger.EVENTS, event="checkpoint.saved")),
    "checkpoint.keep_last": (1, lambda workdir: len(os.listdir(workdir / "checkpoints"))),
    "safety.bypass": (True, steps_of(ledger.EVENTS, event=ledger.BYPASS)),
    "safety.bypass_reason": ("a test", steps_of(ledger.EVENTS, event=ledger.BYPASS, reason="a test")),
    "tracking.rotate_bytes": (1000, has("metrics.0001.ndjson")),
    "tracking.system_every_secs": (0.0, has(calls.SYSTEM)),
    "train.layer_stats_every": (2, steps_of(ledger.METRICS, split="layers")),
    "tracking.profile_steps": (2, steps_of(ledger.EVENTS, event="profile.saved")),
    "tracking.profile_from_step": (4, lambda workdir: '"first":4,"last":5' in (workdir / ledger.EVENTS).read_text()),
    "tracking.csv.enabled": (False, has("metrics.csv")),
    "tracking.tensorboard.enabled": (False, has("tensorboard")),
    "tracking.mlflow.enabled": (True, has("mlflow.db")),
    "tracking.mlflow.experiment": ("one experiment", mlflow_has("SELECT name FROM experiments", "one experiment")),
    "tracking.mlflow.run_name": ("a run name", mlflow_has("SELECT name FROM runs", "a run name")),
    "tracking.wandb.enabled": (True, has("wandb")),
    "tracking.wandb.project": ("one project", wandb_has("project", "one project")),
    "tracking.wandb.entity": ("one_entity", wandb_has("entity", "one_entity")),
    "tracking.wandb.tags": (("one tag",), wandb_has("tags", ["one tag", "safety.bypass"])),
}


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory, with the corpora and the tokenizer that the tables name."""
    directory = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        small_run.write_corpus(Path("texts"))
        small_run.write_corpus(Path("others"), seed=1)
        small_run.write_rows(Path("rows.jsonl"), broken=0, whole=200)
        small_run.write_rows(Path("broken.jsonl"), broken=4, whole=200)
        small_weights.write(Path("base_weights"))
        Path("copy").mkdir()
        for split, whole in (("train", 200), ("test", 150)):
            small_run.write_rows(Path("copy") / f"{split}.jsonl", broken=0, whole=whole)
        small_run.write_pairs(Path("pairs.jsonl"), 200)
        small_run.write_chats(Path("chats.jsonl"), 200)
        small_run.write_labelled(Path("labelled.jsonl"), 200)
        # Blocks a tenth of the lines.
        Path("policy.yaml").write_text("version: 1\nrules:\n  - {id: seven, patterns: ' 7[0-9][0-9]', action: block}\n")
        Path("template.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
        Path("other.jinja").write_text("{% for m in messages %}{{ m.role }}> {{ m.content }};{% endfor %}")
        long = '{"text": "' + 100 * "many words " + '"}\n'
        Path("long.jsonl").write_text(Path("rows.jsonl").read_text() + long)
        rows = Path("rows.jsonl").read_bytes()
        Path("swollen.jsonl.gz").write_bytes(gzip.compress(rows + b" " * 24_000_000 + b"\n" + rows))
        other = observers.resolve({"data.paths": ("others",)})
        for place in ("saved_tokenizer", "artifacts/models/gpt2"):
            pipeline.make_tokenizer(other, observers.opened(other)).save(Path(place))
        yield directory


@pytest.fixture(scope="module")
def runs(files: Path) -> Iterator[tuple[Path, Path]]:
    """The workdirs of two whole runs: as SMALL has it, and with every key of IN_A_RUN changed."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    base = {"train.log_every": 1, "eval.every_steps": 2}
    changed = {name: value for name, (value, _) in IN_A_RUN.items()}
    for name, changes in (("base", base), ("changed", changed)):
        train.train(observers.resolve(changes), {}, files / name, StopRequest())
    yield files / "base", files / "changed"
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name, value in before.items():
        jax.config.update(name, value)


def test_every_key_is_in_a_table() -> None:
    assert sorted([*EFFECTS, *IN_A_RUN]) == sorted(name for name, _, _ in schema.walk(config.Config))


seen: dict[tuple[Any, config.Config], Any] = {}


@pytest.mark.parametrize("name", EFFECTS)
def test_key_changes_what_its_observer_sees(name: str) -> None:
    value, observe, base = EFFECTS[name]
    settings = observers.resolve(base)
    if (observe, settings) not in seen:
        seen[observe, settings] = observe(settings)
        assert observe(settings) == seen[observe, settings], "an observer that sees chance proves nothing"
    assert observe(observers.resolve({**base, name: value})) != seen[observe, settings]


@pytest.mark.parametrize("name", IN_A_RUN)
def test_key_changes_what_a_run_leaves(name: str, runs: tuple[Path, Path]) -> None:
    _, observe = IN_A_RUN[name]
    assert observe(runs[0]) != observe(runs[1])
