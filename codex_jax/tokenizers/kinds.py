"""The kinds of tokenizers by name, and which of them lies at a path."""

from pathlib import Path

from codex_jax.errors import AssetError
from codex_jax.registry import Registry
from codex_jax.tokenizers import byte, hf, sentencepiece, whitespace, wordpiece
from codex_jax.tokenizers.kind import Kind


KINDS: Registry[Kind] = Registry("codex_jax.tokenizers")
for _name, _kind in {
    "hf": Kind("tokenizer.json, or a directory of transformers; trained: byte-level BPE", hf.load, hf.train),
    "sentencepiece": Kind("a SentencePiece .model; trained: unigram or BPE", sentencepiece.load, sentencepiece.train),
    "gpt2": Kind("vocab.json and merges.txt, as GPT-2 has them", hf.load_vocab),
    "wordpiece": Kind("vocab.txt, as BERT has it; trained: lower case", wordpiece.load, wordpiece.train),
    "byte": Kind("256 bytes and an end token; needs no file", byte.load, make=byte.make),
    "whitespace": Kind("words of a fixed vocabulary, for experiments", whitespace.load, whitespace.train),
}.items():
    KINDS.register(_name, _kind, source=_kind.load.__module__)


def kind_at(path: Path) -> str:
    """Return the name of the kind that lies at an existing path; AssetError, saying what was looked for, if none does.

    `byte` and `whitespace` look like others, and kinds of other packages are not asked: name those.
    """
    if path.suffix == ".model" and path.is_file():
        return "sentencepiece"
    if path.is_file() or (path / "tokenizer.json").is_file():
        return "hf"
    if all((path / name).is_file() for name in hf.VOCAB_FILES):
        return "hf" if (path / "tokenizer_config.json").is_file() else "gpt2"
    if (path / wordpiece.VOCAB_FILE).is_file():
        return "wordpiece"
    if sentencepiece.find_model(path):
        return "sentencepiece"
    raise AssetError(
        f"{path} holds no tokenizer: looked for tokenizer.json, then for vocab.json with merges.txt, for vocab.txt, "
        "then for one .model file"
    )
