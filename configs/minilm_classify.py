"""MiniLM, an encoder, taught to tell classes of text apart (fine-tuning as of Devlin et al. 2018).

    scripts/train --config=configs/minilm_classify.py:tiny
    scripts/train --config=configs/minilm_classify.py --config.data.paths=reviews.jsonl \
        --config.data.labels=negative,positive --config.model.weights=all-MiniLM-L6-v2 \
        --config.tokenizer.path=all-MiniLM-L6-v2

The first begins at random values, with a tokenizer of its own, and learns which of six packages of Python's standard
library a piece of source code is from: two minutes on two CPU cores, 0.9 GiB; 90 % right (Python 3.12) where guessing
the most frequent one gets 28 %. The pieces are held out, not the files: others of the same files are trained on. The
second goes on from the weights in a directory, on rows with the fields text and label. 22.7 million parameters, 1.7
GiB; on two CPU cores an update takes 2 to 5 seconds (30 measured), all 1,000 half an hour to an hour and a half.
docs/encoders.md tells more.
"""

import sysconfig

from ml_collections import ConfigDict

from codex_jax import config
from codex_jax.errors import ConfigError


# Every Python has them, and none is much larger than the others.
PACKAGES = ("asyncio", "email", "http", "logging", "multiprocessing", "unittest")


def get_config(size: str = "l6") -> ConfigDict:
    """Return the settings of one size: l6 or tiny."""
    if size not in ("l6", "tiny"):
        raise ConfigError(f"there is no size {size!r}; choose one of l6, tiny")
    settings = config.default()
    model, data, train = settings.model, settings.data, settings.train
    model.name, model.ending = "all-minilm-l6-v2", "classes"
    model.dropout = 0.1
    settings.tokenizer.kind = "wordpiece"
    settings.tokenizer.vocab_size = 30_000
    data.objective = "classes"
    data.sequence_length = 128
    train.num_steps = 1000
    train.global_batch_size = 32  # texts
    settings.optimizer.learning_rate = 5e-5
    settings.optimizer.final_learning_rate = 0.0
    settings.optimizer.warmup_steps = 100
    settings.optimizer.beta2 = 0.999
    settings.optimizer.weight_decay = 0.01
    settings.checkpoint.every_steps = settings.eval.every_steps = 200
    return settings if size == "l6" else _tiny(settings)


def _tiny(settings: ConfigDict) -> ConfigDict:
    """Return a model that learns something visible in two minutes."""
    model, data, train = settings.model, settings.data, settings.train
    model.num_layers, model.num_heads, model.width, model.mlp_width = 2, 4, 128, 512
    model.vocab_size = settings.tokenizer.vocab_size = 4096
    model.context_length = 128
    data.labels = PACKAGES
    # A piece is of the class that its file's directory is called after.
    data.paths = tuple(f"{sysconfig.get_path('stdlib')}/{name}/*.py" for name in PACKAGES)
    data.document_bytes = 300  # about 90 tokens: few are cut
    train.num_steps = 500
    settings.optimizer.learning_rate = 1e-3
    settings.generate.prompt = "self.assertRaises(ValueError, msg)"
    train.log_every = 20
    return settings
