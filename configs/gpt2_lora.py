"""GPT-2 124M with adapters of rank 8 beside its attention (LoRA, Hu et al. 2021).

    scripts/train --config=configs/gpt2_lora.py --config.model.weights=DIRECTORY --config.data.paths=FILES

DIRECTORY holds config.json, the weights and the tokenizer as they are published; without it they are looked for where
CODEX_OFFLINE_MODELS_DIR says. The base is in no checkpoint. Takes 1.9 GiB; on two CPU cores an update takes some 15
seconds, all 500 two hours.
"""

from ml_collections import ConfigDict

from codex_jax import config


def get_config() -> ConfigDict:
    """Return the settings."""
    settings = config.default()
    settings.model.name, settings.model.weights = "gpt2", "offline"
    settings.adapter.rank, settings.adapter.alpha = 8, 16.0  # 294,912 trained parameters
    settings.adapter.targets = ("attention/qkv",)
    settings.adapter.dropout = 0.05
    settings.data.sequence_length = 512
    train = settings.train
    train.num_steps = 500
    train.global_batch_size = 8  # 8 x 512 = 4,096 tokens an update
    train.microbatch_size = 2
    settings.optimizer.learning_rate = 5e-4
    settings.optimizer.final_learning_rate = 5e-5
    settings.optimizer.warmup_steps = 20
    settings.optimizer.weight_decay = 0.0
    settings.checkpoint.every_steps = settings.eval.every_steps = 100
    return settings
