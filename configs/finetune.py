"""All parameters of a pretrained model trained on, from a directory of weights with its config.json and tokenizer.

    scripts/train --config=configs/finetune.py --config.model.weights=DIRECTORY --config.data.paths=FILES

Takes 16 bytes a parameter: 2 GB for GPT-2 124M, 18 GB for TinyLlama 1.1B. A step of 4,096 tokens of GPT-2 takes some
15 seconds on two CPU cores.
"""

from ml_collections import ConfigDict

from codex_jax import config


def get_config() -> ConfigDict:
    """Return settings that change a model gently; which model it is, its directory says."""
    settings = config.default()
    train = settings.train
    settings.data.sequence_length = 512
    train.num_steps = 300
    train.global_batch_size = 8  # 8 x 512 = 4,096 tokens an update
    train.microbatch_size = 2
    settings.optimizer.learning_rate = 2e-5
    settings.optimizer.final_learning_rate = 2e-6
    settings.optimizer.warmup_steps = 20
    settings.checkpoint.every_steps = settings.eval.every_steps = 100
    return settings
