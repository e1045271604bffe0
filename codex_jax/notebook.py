"""What a notebook or a script calls: a trained model in three lines.

from codex_jax import notebook

model = notebook.open("runs/gpt2-tiny")
print(model("def main(", num_tokens=50))
"""

import os
from collections.abc import Mapping
from pathlib import Path

from codex_jax.cli import opening
from codex_jax.generation.text import Voice


def open(path: str | os.PathLike[str], *, step: int | None = None, settings: Mapping[str, str] | None = None) -> Voice:
    """Return the model of a run or of a directory of weights in Hugging Face's form.

    Called with a prompt it returns the text with what follows; `answers` takes several prompts, `stream` yields pieces.

    Args:
      path: directory of a run, whose newest checkpoint is taken, or of weights.
      step: another checkpoint of the run.
      settings: settings to change, as texts by their names: {"model.compute_dtype": "float32"}.

    Raises AssetError when something is missing or not what it says it is, ConfigError for settings that cannot be.
    """
    return opening.voice(Path(path).expanduser(), step, list((settings or {}).items()))
