"""Every knob of the project, once: its name, default, meaning, unit and range; those of data are in `data_knobs`."""

import dataclasses

from codex_jax.data_knobs import Data, Safety, Tokenizer
from codex_jax.dtypes import ALIASES
from codex_jax.schema import knob, section


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    seed: int = knob(0, "seed of every random stream: initial weights, dropout, data order, sampling", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    name: str = knob(
        "",
        "a model of the catalogue, see codex-jax model list; a size that is 0 below is as it has it. Empty: that of "
        "model.architecture or model.weights, else gpt2",
    )
    architecture: str = knob("", "a config.json in Hugging Face's form, or its text, in place of the catalogue's")
    weights: str = knob(
        "",
        "directory of weights to begin with, and of their config.json; offline: where this machine has those of "
        "model.name; empty: random ones",
    )
    ending: str = knob(
        "",
        "what an encoder ends in: hidden, logits of hidden tokens; classes, of a text; pooled, a vector; empty: as its "
        "config.json says. A head that the weights have not begins at random values",
        choices=("", "hidden", "classes", "pooled"),
    )
    vocab_size: int = knob(0, "rows of the token embedding; at least the tokenizer's vocabulary", low=0)
    context_length: int = knob(0, "longest sequence, in tokens; learnt positions reach no further", low=0)
    num_layers: int = knob(0, "number of transformer blocks", low=0)
    num_heads: int = knob(0, "attention heads in a block", low=0)
    num_kv_heads: int = knob(0, "heads of keys and values in a block; divides model.num_heads", low=0)
    head_dim: int = knob(0, "size of a head", low=0)
    width: int = knob(0, "size of the residual stream", low=0)
    mlp_width: int = knob(0, "size between the products of a block's MLP", low=0)
    dropout: float = knob(0.0, "probability of dropping an activation while training", low=0.0, high=0.99)
    compute_dtype: str = knob(
        "auto",
        "type of the operands of matrix products; sums, softmax and loss stay float32. auto: bfloat16 on accelerators, "
        "on a CPU only where it was measured to be faster",
        choices=("auto", "float32", "bfloat16"),
        aliases=ALIASES,
    )
    attention: str = knob(
        "auto",
        "attention kernel: xla runs everywhere, cudnn is the fused one of NVIDIA GPUs; auto takes the faster that fits",
        choices=("auto", "xla", "cudnn"),
    )
    remat: bool = knob(False, "recompute a block in the backward pass instead of keeping its activations")
    scan_unroll: int = knob(1, "blocks per iteration of the scan over layers; divides model.num_layers", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
    rank: int = knob(
        0, "rank of the adapters (LoRA); the model itself is then frozen. 0: none, or that of adapter.weights", low=0
    )
    alpha: float = knob(16.0, "adapters are multiplied by alpha / rank", low=1e-6)
    rslora: bool = knob(False, "adapters are multiplied by alpha / sqrt(rank) instead")
    dropout: float = knob(0.0, "probability of dropping what an adapter reads while training", low=0.0, high=0.99)
    targets: tuple[str, ...] = knob(
        (),
        "regular expressions of the products that have adapters, such as attention/(query|value)$ or mlp/; empty: "
        "queries and values",
    )
    weights: str = knob("", "directory of a PEFT adapter to begin with; empty: adapters that change nothing at first")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantization:
    mode: str = knob(
        "",
        "how the kernels of a frozen base are kept: int8, a scale a column; nf4, 16 values and a scale for 64 of them; "
        "empty: as float32",
        choices=("", "int8", "nf4"),
    )
    targets: tuple[str, ...] = knob(
        (), "regular expressions of the products kept so, such as mlp/; empty: all of the blocks"
    )


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
    masked_fraction: float = knob(
        0.15, "share of the tokens that are to be guessed, with data.objective=masked", low=0.0001, high=0.9
    )
    mask_fraction: float = knob(0.8, "share of those that the mask token takes the place of", low=0.0, high=1.0)
    random_fraction: float = knob(
        0.1, "share of those that a random token takes the place of; the others stay as they are", low=0.0, high=1.0
    )
    max_nonfinite: int = knob(
        0, "updates left out, in a run, because their loss or gradient is not finite, before training stops", low=0
    )
    spike_factor: float = knob(
        0.0, "a loss this many standard deviations above the mean of those before it is a spike; 0: none is", low=0.0
    )
    spike_window: int = knob(128, "losses that a spike stands out from", low=2)
    max_rewinds: int = knob(
        0, "times a run goes back to its last checkpoint after a spike; 0: spikes are only written down", low=0
    )
    spike_batches: int = knob(1, "batches left out after going back, that of the spike being the last", low=1)
    log_every: int = knob(10, "steps between progress lines and rows of the ledger", low=1)
    layer_stats_every: int = knob(
        0, "steps between looks at each layer, norms and histograms, which cost a gradient more; 0: none", low=0
    )
    max_step_secs: float = knob(
        1800.0,
        "the process ends when a step or a part of an evaluation takes longer, in seconds; ten times as long where "
        "something is compiled; 0: no limit",
        low=0.0,
    )
    trainable: tuple[str, ...] = knob(
        (), "regular expressions of the leaves that are trained; empty: all, or the adapters where there are any"
    )
    freeze_layers: int = knob(0, "first blocks that stay as they are", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel:
    data: int = knob(0, "devices that share the batch, each with all parameters; 0: all that are left", low=0)
    fsdp: int = knob(1, "devices that share the batch and the parameters", low=1)
    tensor: int = knob(1, "devices that share each matrix product", low=1)
    deterministic_reduction: int = knob(
        0,
        "parts of a batch that are added up in one order: a run gives the same bits on any number of devices that "
        "divides it. A power of two; 0: the devices add up as is fastest",
        low=0,
        high=4096,
    )
    coordinator: str = knob(
        "", "HOST:PORT where process 0 waits for the others; auto: as the cluster says; empty: one process"
    )
    num_processes: int = knob(1, "processes of the run, with coordinator=HOST:PORT", low=1)
    process_index: int = knob(0, "which of them this one is; 0 decides, writes and talks", low=0)
    wait_secs: float = knob(
        300.0,
        "how long the processes wait for each other at the start, and for a word of one that is silent, in seconds",
        low=0.0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    every_steps: int = knob(100, "steps between checkpoints; the last step is always saved", low=1)
    every_minutes: float = knob(
        0.0, "minutes between checkpoints of which only the newest is kept, beside those by steps; 0: none", low=0.0
    )
    keep_last: int = knob(2, "newest checkpoints to keep", low=1)
    keep_every: int = knob(0, "checkpoints of steps that are multiples of this stay for ever; 0: none do", low=0)
    keep_best: int = knob(0, "checkpoints to keep that are the best on validation data, of equal ones the newer", low=0)
    best_metric: str = knob(
        "loss",
        "which figure of an evaluation makes one the best; token_accuracy of tokens, accuracy of classes",
        choices=("loss", "perplexity", "token_accuracy", "accuracy"),
    )
    best_mode: str = knob("min", "whether the smallest or the largest value is the best", choices=("min", "max"))
    allow_change: tuple[str, ...] = knob(
        (), "settings, and contents of the data, that may differ from the checkpoint a run goes on from"
    )
    on_failure: str = knob(
        "stop",
        "when a checkpoint cannot be saved: stop, or go_on, trying the next, with exit code 4 if the last failed, too",
        choices=("stop", "go_on"),
    )
    max_secs: float = knob(
        3600.0, "longest that a save may take, in seconds; one that takes longer hangs, and ends the process", low=0.1
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
    every_steps: int = knob(100, "steps between evaluations; the last step is always evaluated", low=1)
    patience: int = knob(
        0,
        "evaluations in a row without a better checkpoint.best_metric after which training ends; 0: it does not",
        low=0,
    )
    num_batches: int = knob(8, "batches of validation data in an evaluation, the same ones each time", low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate:
    prompt: str = knob("", "text that each sample continues; empty: the first few tokens held out for validation")
    num_tokens: int = knob(48, "length of a sample, in tokens", low=1)
    temperature: float = knob(0.8, "divides the logits; 0 takes the likeliest token", low=0.0)
    top_k: int = knob(50, "sample among this many likeliest tokens; 0: among all", low=0)
    top_p: float = knob(
        1.0, "sample among the likeliest tokens that have this probability together; 1: all", low=0.0, high=1.0
    )
    min_p: float = knob(
        0.0, "sample among tokens at least so many times as likely as the likeliest; 0: all", low=0.0, high=1.0
    )
    repetition_penalty: float = knob(
        1.0, "above 1 makes tokens less likely that are in prompt or sample already; 1: does not", low=0.01
    )
    stop: tuple[str, ...] = knob((), "texts at which a sample ends, before them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Csv:
    enabled: bool = knob(True, "copy the ledger to metrics.csv, one value a line")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensorboard:
    enabled: bool = knob(True, "copy the ledger to tensorboard/")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlflow:
    enabled: bool = knob(False, "copy the ledger to MLflow")
    uri: str = knob("", "an SQLite file, or the address of a server; empty: mlflow.db in the run directory")
    experiment: str = knob("codex_jax", "experiment the run is in")
    run_name: str = knob("", "what MLflow calls the run; empty: its run id")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wandb:
    enabled: bool = knob(False, "copy the ledger to wandb/, a W&B run")
    project: str = knob("codex_jax", "project the run is in")
    entity: str = knob("", "user or team it belongs to; empty: whose key it is sent with")
    tags: tuple[str, ...] = knob((), "tags of the run")
    mode: str = knob(
        "offline", "offline writes files for wandb sync, online sends them as well", choices=("offline", "online")
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking:
    rotate_bytes: int = knob(
        0, "a file of the ledger that has grown to this size is set aside as a part, in bytes; 0: none is", low=0
    )
    allow_remote: bool = knob(False, "let copies of the run go to other machines")
    plugins: tuple[str, ...] = knob((), "sinks of installed packages that are on")
    system_every_secs: float = knob(
        10.0, "seconds between looks at the machine: CPU, memory, disk and GPUs; 0: it is not looked at", low=0.0
    )
    profile_from_step: int = knob(10, "first step that JAX's profiler sees; that of a start compiles", low=1)
    profile_steps: int = knob(0, "steps that it sees, in profile/; a few, since they are large; 0: none", low=0)
    csv: Csv = section(Csv)
    tensorboard: Tensorboard = section(Tensorboard)
    mlflow: Mlflow = section(Mlflow)
    wandb: Wandb = section(Wandb)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    run: Run = section(Run)
    model: Model = section(Model)
    adapter: Adapter = section(Adapter)
    quantization: Quantization = section(Quantization)
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
