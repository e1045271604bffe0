"""Worker of tokenise.py: the text through `datasets.map`, batched, tokenised and packed in one function."""

import shutil
import sys
import tempfile
from pathlib import Path

import datasets
import numpy as np
import paired
import tokenizers


DOCUMENT_BYTES, BATCH, LENGTH = 16_384, 256, 1024


def main(text: str, directory: str) -> None:
    """Put the documents into an Arrow file and serve measurements of the map over it."""
    datasets.disable_progress_bars()
    tokenizer = tokenizers.Tokenizer.from_file(f"{directory}/tokenizer.json")
    eos = tokenizer.token_to_id("<|endoftext|>")

    def documents() -> object:
        with open(text, errors="replace") as file:
            while document := file.read(DOCUMENT_BYTES):
                yield {"text": document}

    source = datasets.Dataset.from_generator(documents, cache_dir=f"{directory}/arrow")

    def pack(rows: dict[str, list[str]]) -> dict[str, np.ndarray]:
        encoded = tokenizer.encode_batch_fast(rows["text"], add_special_tokens=False)
        ids = np.concatenate([np.array([*one.ids, eos], np.int32) for one in encoded])
        return {"input_ids": ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)}

    def work() -> None:
        here = tempfile.mkdtemp(dir=directory)
        cache = str(Path(here) / "packed.arrow")
        source.map(pack, batched=True, batch_size=BATCH, remove_columns=["text"], cache_file_name=cache)
        shutil.rmtree(here)

    paired.serve(work, {"datasets": datasets.__version__, "tokenizers": tokenizers.__version__, "rows": len(source)})


if __name__ == "__main__":
    main(*sys.argv[1:])
