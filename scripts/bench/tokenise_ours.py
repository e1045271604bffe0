"""Worker of tokenise.py: an epoch of the text as batches of codex_jax."""

import sys
from pathlib import Path

import paired

from codex_jax import config
from codex_jax.data import pipeline
from codex_jax.safety import gate


def main(text: str, directory: str) -> None:
    """Train the tokenizer both sides use, and serve measurements of an epoch."""
    settings = config.default()
    settings.data.paths, settings.data.validation_fraction = (text,), 1e-12  # all is trained on
    settings.tokenizer.vocab_size = 32768
    resolved = config.resolve(settings.to_dict())
    mixture = pipeline.open_mixture(resolved.data, gate.of(resolved.safety))
    tokenizer = pipeline.make_tokenizer(resolved, mixture)
    tokenizer.save(Path(directory))
    windows = -(-mixture[0].corpus.num_bytes // resolved.data.window_bytes)

    def work() -> None:
        stream, seen = pipeline.train_stream(resolved, mixture, tokenizer, 8), 0
        while seen < windows:
            next(stream)
            seen += len(stream.take_reports())
        stream.close()

    paired.serve(work, {"python": sys.version.split()[0], "sequence_length": resolved.data.sequence_length})


if __name__ == "__main__":
    main(*sys.argv[1:])
