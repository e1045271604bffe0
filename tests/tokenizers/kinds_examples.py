"""One small tokenizer of each kind, and texts that are hard to give back."""

from codex_jax.tokenizers import byte, training
from codex_jax.tokenizers.tokenizer import Tokenizer


TEXTS = [
    "def add(a, b):\n    return a + b\n\n\n" * 20,
    "na\u00efve caf\u00e9 \U0001f642 <|endoftext|> x\r\n" * 10,
    "\ttab\there\n" * 5,
]
HARD = {
    "tabs": "\ta\t\tb",
    "CRLF": "a\r\nb\r\n",
    "lone CR": "a\rb\r",
    "leading blanks": "    a",
    "blanks in a row": "a   b  ",
    "emoji": "\U0001f642\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "NUL": "a\0b",
    "accents": "\u00e9 e\u0301",
    "marks": "\u2028 \ufeff \u2581 \u2581a\u2581",
    "special": "</s><s><|endoftext|><unk><0x0A>[EOS]",
}
# Those that give back any text.
LOSSLESS: dict[str, Tokenizer] = {
    "hf": training.train(TEXTS, 400),
    "byte": byte.make(),
    "unigram": training.train(TEXTS, 400, kind="sentencepiece"),
    "bpe": training.train(TEXTS, 400, kind="sentencepiece", algorithm="bpe"),
}
WORDS = training.train(TEXTS, 30, kind="whitespace")
