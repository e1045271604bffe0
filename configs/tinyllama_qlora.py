"""TinyLlama 1.1B with low-rank adapters beside a base of four bits a weight (QLoRA, Dettmers et al. 2023).

    scripts/train --config=configs/tinyllama_qlora.py --config.model.weights=DIRECTORY --config.data.paths=FILES

DIRECTORY holds config.json, model.safetensors and the tokenizer as they are published. Without it they are looked for
where CODEX_OFFLINE_MODELS_DIR says. Two steps of 2 rows of 128 tokens on two CPU cores with weights of that size took
130 s on a busy machine and 4.0 GiB at most; a GPU was not tried.
"""

from ml_collections import ConfigDict

from codex_jax import config


def get_config(_: str = "") -> ConfigDict:
    """Return the settings."""
    settings = config.default()
    settings.model.name = "tinyllama-1.1b-chat"
    settings.model.weights = "offline"
    settings.model.remat = True
    settings.quantization.mode = "nf4"
    settings.adapter.rank = 16
    settings.adapter.alpha = 32.0
    settings.adapter.targets = ("attention/", "mlp/")
    settings.data.sequence_length = 512
    train = settings.train
    train.num_steps = 1000
    train.global_batch_size = 16
    train.microbatch_size = 1
    train.log_every = 1
    settings.optimizer.learning_rate = 2e-4
    settings.optimizer.final_learning_rate = 2e-5
    settings.optimizer.warmup_steps = 30
    settings.optimizer.weight_decay = 0.0
    return settings
