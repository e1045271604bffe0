"""The smallest vocabulary that can say anything: 256 bytes, each with its own value as id, and an end token."""

from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from codex_jax.errors import AssetError
from codex_jax.tokenizers import hf
from codex_jax.tokenizers.tokenizer import JsonTokenizer, Roles


def make() -> JsonTokenizer:
    """Return the byte tokenizer; saved, it is a tokenizer.json like any other."""
    inner = tokenizers.Tokenizer(models.BPE(vocab={name: byte for byte, name in _names().items()}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([hf.EOS_TOKEN])
    return JsonTokenizer(inner, Roles(eos=hf.EOS_TOKEN))


def load(path: Path) -> JsonTokenizer:
    """Return the byte tokenizer that was saved at a path; AssetError when it is another."""
    made = hf.load(path)
    if made.digest != make().digest:
        raise AssetError(f"{path} is not the byte tokenizer; leave tokenizer.kind empty to take it as what it is")
    return made


def _names() -> dict[int, str]:
    """Return how the byte-level tokenizers write each byte: printable Latin-1 as itself, the others from U+0100 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
