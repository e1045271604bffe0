"""GPT-2 learns to answer questions: rows with a question and an answer, of which only the answer is learnt.

    scripts/train --config=configs/gpt2_gsm8k.py --config.data.paths=gsm8k/train.jsonl

Made for the 7,473 word problems of GSM8K (Cobbe et al. 2021); any JSON Lines with these two fields will do, or others
named in data.prompt_field and data.completion_field. `:tiny` is a first try in two minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from codex_jax import config
from codex_jax.errors import ConfigError


def get_config(size: str = "124m") -> ConfigDict:
    """Return the settings of one size."""
    if size not in ("tiny", "124m"):
        raise ConfigError(f"there is no size {size!r}; choose one of tiny, 124m")
    settings = config.default()
    data, train = settings.data, settings.train
    data.paths = ("gsm8k/train.jsonl",)
    data.prompt_field, data.completion_field = "question", "answer"
    settings.generate.prompt = "Tom has 3 bags with 4 apples each. How many apples does he have?\n"
    data.sequence_length = 512
    train.global_batch_size = 16  # 16 x 512 = 8,192 tokens, some 45 problems an update
    train.num_steps = 500  # three times through GSM8K
    settings.optimizer.learning_rate = 6e-5
    settings.optimizer.final_learning_rate = 6e-6
    settings.optimizer.warmup_steps = 50
    if size == "tiny":
        model = settings.model
        model.num_layers, model.num_heads, model.width = 4, 4, 128
        model.vocab_size = settings.tokenizer.vocab_size = 4096
        model.context_length = data.sequence_length = 256
        train.global_batch_size = 8  # 8 x 256 = 2,048 tokens an update
        settings.optimizer.learning_rate = 3e-3
        settings.optimizer.final_learning_rate = 3e-4
    return settings
