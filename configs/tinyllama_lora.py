"""TinyLlama 1.1B with adapters of rank 8 beside its queries and values (LoRA, Hu et al. 2021).

    scripts/train --config=configs/tinyllama_lora.py --config.model.weights=DIRECTORY --config.data.paths=FILES

DIRECTORY holds config.json, the weights and the tokenizer as they are published; without it they are looked for where
CODEX_OFFLINE_MODELS_DIR says. The base takes 4.4 GB as float32; configs/tinyllama_qlora.py keeps it in a seventh of
that. Takes 5.2 GiB; on two CPU cores of a busy machine an update took some six minutes: a task for a GPU, where nothing
was measured yet.
"""

from ml_collections import ConfigDict

from codex_jax import config


def get_config() -> ConfigDict:
    """Return the settings."""
    settings = config.default()
    settings.model.name, settings.model.weights = "tinyllama-1.1b-chat", "offline"
    settings.model.remat = True
    settings.adapter.rank, settings.adapter.alpha = 8, 16.0  # 1,126,400 trained parameters
    settings.adapter.targets = ("attention/(query|value)$",)
    settings.adapter.dropout = 0.05
    settings.data.sequence_length = 512
    train = settings.train
    train.num_steps = 500
    train.global_batch_size = 16  # 16 x 512 = 8,192 tokens an update
    train.microbatch_size = 1
    train.log_every = 1
    settings.optimizer.learning_rate = 3e-4
    settings.optimizer.final_learning_rate = 3e-5
    settings.optimizer.warmup_steps = 20
    settings.optimizer.weight_decay = 0.0
    settings.checkpoint.every_steps = settings.eval.every_steps = 100
    return settings
