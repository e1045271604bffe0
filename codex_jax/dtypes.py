"""Types of numbers by the words that people write for them."""

from collections.abc import Mapping


_SPELLINGS = {
    "float32": ("float32", "fp32", "float"),
    "float16": ("float16", "fp16", "half"),
    "bfloat16": ("bfloat16", "bf16"),
}
ALIASES: Mapping[str, str] = {
    prefix + word: name for name, words in _SPELLINGS.items() for word in words for prefix in ("", "torch.")
}
"""the name here for each spelling"""
