"""Words between white space, of a fixed vocabulary; what is not in it becomes the unknown token.

For experiments and small examples: white space itself is lost, decoding puts one space between words.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from codex_jax.errors import AssetError
from codex_jax.tokenizers import hf
from codex_jax.tokenizers.kind import Recipe
from codex_jax.tokenizers.tokenizer import JsonTokenizer, Roles


# The names a given vocabulary may have for its roles; a trained one has the first of each.
NAMES = {"pad": ("<pad>", "[PAD]"), "unk": ("<unk>", "[UNK]"), "bos": ("<bos>", "<s>"), "eos": ("<eos>", "</s>")}


def load(path: Path) -> JsonTokenizer:
    """Return the tokenizer of a JSON object {word: id} with an unknown token in it, or of one that was saved."""
    if path.is_dir() or path.name == "tokenizer.json":
        made = hf.load(path)
        if made.decode(made.encode([" a\t"])[0].tolist()) not in ("a", made.roles.unk):
            raise AssetError(f"{path} is not of words between white space; leave tokenizer.kind empty")
        return made
    try:
        vocab = json.loads(path.read_text(encoding="utf-8"))
        valid = all(isinstance(index, int) and index >= 0 for index in vocab.values())
    except (ValueError, AttributeError) as error:
        raise AssetError(f"{path} is not a JSON object of words and ids: {error}") from error
    if not valid or len(set(vocab.values())) < len(vocab):
        raise AssetError(f"{path} gives ids that are not whole numbers from 0 up, or one id to two words")
    return _of(vocab, path)


def train(texts: Iterable[str], recipe: Recipe) -> JsonTokenizer:
    """Make a vocabulary of the most frequent words, those of equal count in the order of the alphabet."""
    inner = _splitting(models.WordLevel(unk_token="<unk>"))
    special = [NAMES[role][0] for role in ("pad", "unk", "eos")]
    inner.train_from_iterator(
        iter(texts),
        trainers.WordLevelTrainer(vocab_size=recipe.vocab_size, special_tokens=special, show_progress=False),
    )
    return JsonTokenizer(inner, Roles(eos="<eos>", pad="<pad>", unk="<unk>"))


def _of(vocab: dict[str, int], path: Path) -> JsonTokenizer:
    roles = Roles(**{role: next((name for name in names if name in vocab), None) for role, names in NAMES.items()})
    if roles.unk is None:
        raise AssetError(f"{path} has no word for what it does not know; add {' or '.join(NAMES['unk'])} with an id")
    inner = _splitting(models.WordLevel(vocab=vocab, unk_token=roles.unk))
    inner.add_special_tokens([name for name in roles if name])
    return JsonTokenizer(inner, roles)


def _splitting(model: models.Model) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return inner
