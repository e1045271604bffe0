"""MiniLM, an encoder, on text of your own by masked language modelling (Devlin et al. 2018).

    scripts/train --config=configs/minilm_mlm.py:tiny
    scripts/train --config=configs/minilm_mlm.py --config.data.paths=texts --config.model.weights=all-MiniLM-L6-v2 \
        --config.tokenizer.path=all-MiniLM-L6-v2

The first begins at random values, with a tokenizer of its own, on the source code of Python's standard library: two
minutes on two CPU cores, 0.9 GiB; validation loss 4.81 (Python 3.12), where a guess without context costs 5.34. The
second goes on from the weights in a directory; those of all-MiniLM-L6-v2 have no head for hidden tokens, which begins
at random values. 22.7 million parameters, 2.4 GiB; on two CPU cores an update takes 3.5 to 7 seconds (12 measured), all
2,000 two to four hours: a task for a GPU. docs/encoders.md tells more.
"""

from ml_collections import ConfigDict

from codex_jax import config
from codex_jax.errors import ConfigError


def get_config(size: str = "l6") -> ConfigDict:
    """Return the settings of one size: l6 or tiny."""
    if size not in ("l6", "tiny"):
        raise ConfigError(f"there is no size {size!r}; choose one of l6, tiny")
    settings = config.default()
    model, data, train = settings.model, settings.data, settings.train
    model.name, model.ending = "all-minilm-l6-v2", "hidden"
    settings.tokenizer.kind = "wordpiece"
    settings.tokenizer.vocab_size = 30_000
    data.objective, data.packing = "masked", "first_fit"
    data.sequence_length = 256  # what sentence encoders of this family were trained with
    data.document_bytes = 1024  # about a row's tokens: few are cut
    train.num_steps = 2000
    train.global_batch_size = 32  # 32 x 256 = 8,192 tokens an update, of which 1,200 are guessed
    settings.optimizer.learning_rate = 5e-4
    settings.optimizer.final_learning_rate = 5e-5
    settings.optimizer.warmup_steps = 100
    settings.optimizer.beta2 = 0.98
    settings.checkpoint.every_steps = settings.eval.every_steps = 200
    return settings if size == "l6" else _tiny(settings)


def _tiny(settings: ConfigDict) -> ConfigDict:
    """Return a model that learns something visible in two minutes."""
    model, train = settings.model, settings.train
    model.num_layers, model.num_heads, model.width, model.mlp_width = 3, 4, 128, 512
    model.vocab_size = settings.tokenizer.vocab_size = 4096
    model.context_length = settings.data.sequence_length = 128
    settings.tokenizer.train_bytes = 2_000_000
    settings.data.document_bytes = 400
    train.num_steps = 1200
    train.global_batch_size = 16  # 16 x 128 = 2,048 tokens an update, of which 290 are guessed
    settings.optimizer.learning_rate = 2e-3
    settings.optimizer.final_learning_rate = 2e-4
    settings.generate.prompt = "def [MASK]([MASK]): return x"
    train.log_every = 20
    return settings
