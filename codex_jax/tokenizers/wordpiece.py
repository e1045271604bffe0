"""WordPiece as BERT has it: words in pieces of a vocab.txt, with tokens before and behind a text and one that hides."""

import collections
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from codex_jax import untrusted
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import beside, hf
from codex_jax.tokenizers.kind import Recipe
from codex_jax.tokenizers.tokenizer import JsonTokenizer, Roles


VOCAB_FILE = "vocab.txt"
ROLES = Roles(eos="[SEP]", pad="[PAD]", bos="[CLS]", unk="[UNK]", mask="[MASK]")
# As BERT's own trainer: 1000 letters.
_MOST_LETTERS = 1000
# In the order of BERT's vocabulary: padding is 0.
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def load(path: Path) -> JsonTokenizer:
    """Return the tokenizer of a directory with vocab.txt, of that file, or of one that was saved as tokenizer.json."""
    if (path / "tokenizer.json").is_file() or path.suffix == ".json":
        return hf.load(path)
    file = path / VOCAB_FILE if path.is_dir() else path
    if not file.is_file():
        raise AssetError(f"{path} holds no {VOCAB_FILE}: name a directory with one, or with a tokenizer.json")
    vocab = _read(file)
    given = beside.settings(file.parent)
    if given.get("do_basic_tokenize", True) is not True:
        raise AssetError(f"{file.parent} asks for do_basic_tokenize={given['do_basic_tokenize']!r}; only true is known")
    # Where no file says it, the vocabulary does: one of lower-cased text has no piece with a capital letter.
    lower = given.get("do_lower_case", not any(name != name.lower() for name in vocab if name not in _SPECIAL))
    inner = _splitting(
        models.WordPiece(vocab=vocab, unk_token="[UNK]", max_input_chars_per_word=100),
        normalizers.BertNormalizer(
            lowercase=bool(lower),
            strip_accents=given.get("strip_accents"),
            handle_chinese_chars=bool(given.get("tokenize_chinese_chars", True)),
        ),
    )
    return hf.finish(inner, file.parent)


def train(texts: Iterable[str], recipe: Recipe) -> JsonTokenizer:
    """Train a vocabulary of lower-cased pieces: the same texts in the same order give the same one.

    White space and capitals are lost. ConfigError when the vocabulary has no room for the special tokens.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    held = list(texts)
    # What the library finds for itself has an order, and with it the pieces, that is another in every process.
    alphabet = _alphabet(map(normalizer.normalize_str, held))
    first = [*_SPECIAL, *alphabet, *(f"##{letter}" for letter in alphabet)]
    if recipe.vocab_size < len(first):
        raise ConfigError(f"{recipe.vocab_size} tokens have no room for the {len(first)} letters and special tokens")
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=first,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    inner.train_from_iterator(held, trainer)
    made = _splitting(models.WordPiece(vocab=inner.get_vocab(), unk_token="[UNK]"), normalizer)
    return JsonTokenizer(made, ROLES)


def _alphabet(texts: Iterable[str]) -> list[str]:
    """Return the most frequent letters, in the order of their code; the others become the unknown token."""
    counts = collections.Counter[str]()
    for text in texts:
        counts.update(text)
    letters = sorted((letter for letter in counts if not letter.isspace()), key=lambda one: (-counts[one], one))
    return sorted(letters[:_MOST_LETTERS])


def _read(file: Path) -> dict[str, int]:
    """Return the pieces of a vocab.txt, one a line, by their line from 0."""
    lines = untrusted.read_text(file, beside.MOST_BYTES).split("\n")
    names = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    vocab = {name: index for index, name in enumerate(names)}
    missing = [name for name in _SPECIAL if name not in vocab]
    if missing:
        raise AssetError(f"{file} has no {', '.join(missing)}: it is not a vocabulary of BERT")
    if len(vocab) < len(names):
        raise AssetError(f"{file} has {len(names) - len(vocab)} pieces twice; fetch it again")
    return vocab


def _splitting(model: models.Model, normalizer: normalizers.Normalizer) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.add_special_tokens(list(_SPECIAL))
    # For other programs: here it is the packing that puts them around a text.
    ids = inner.get_vocab(with_added_tokens=True)
    before, behind = ((name, ids[name]) for name in ("[CLS]", "[SEP]"))
    inner.post_processor = processors.BertProcessing(behind, before)
    return inner
