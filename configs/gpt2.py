"""GPT-2, in the sizes of the paper and one for a first try (Radford et al. 2019, table 2).

    scripts/train --config=configs/gpt2.py:tiny      two minutes on two CPU cores; validation loss 4.45 (Python 3.12)
    scripts/train --config=configs/gpt2.py           124M; also :355m, :774m and :1558m

Without `--config.data.paths` it learns the source code of Python's own standard library.
"""

from ml_collections import ConfigDict

from codex_jax import config
from codex_jax.errors import ConfigError


#            layers, heads, width      parameters
SIZES = {
    "124m": (12, 12, 768),  # 124,439,808
    "355m": (24, 16, 1024),  # 354,823,168
    "774m": (36, 20, 1280),  # 774,030,080
    "1558m": (48, 25, 1600),  # 1,557,611,200
}


def get_config(size: str = "124m") -> ConfigDict:
    """Return the settings of one size."""
    if size == "tiny":
        return tiny()
    if size not in SIZES:
        raise ConfigError(f"there is no size {size!r}; choose one of tiny, {', '.join(SIZES)}")
    settings = config.default()
    model, train = settings.model, settings.train
    model.num_layers, model.num_heads, model.width = SIZES[size]
    # 50,257 tokens as published, whatever smaller vocabulary the tokenizer has.
    settings.tokenizer.vocab_size = 32768
    train.num_steps = 10_000
    train.global_batch_size = 16  # 16 x 1,024 = 16,384 tokens an update
    train.microbatch_size = 4
    settings.optimizer.warmup_steps = 200
    settings.checkpoint.every_steps = settings.eval.every_steps = 500
    settings.train.log_every = 1
    return settings


def tiny() -> ConfigDict:
    """Return a model that learns something visible in two minutes."""
    settings = config.default()
    model, train = settings.model, settings.train
    model.num_layers, model.num_heads, model.width = 4, 4, 128
    model.vocab_size = settings.tokenizer.vocab_size = 4096
    settings.tokenizer.train_bytes = 2_000_000
    model.context_length = 256
    settings.data.sequence_length = 128
    train.num_steps = 900
    train.global_batch_size = 16  # 16 x 128 = 2,048 tokens an update
    settings.optimizer.learning_rate = 3e-3
    settings.optimizer.final_learning_rate = 3e-4
    settings.optimizer.warmup_steps = 40
    settings.checkpoint.every_steps = settings.eval.every_steps = 150
    train.log_every = 20
    return settings
