"""What transformers writes beside a vocabulary: the tokens that have a role, added tokens, the chat template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from codex_jax import untrusted
from codex_jax.errors import AssetError
from codex_jax.tokenizers.tokenizer import Roles


# What the token after a document is called where no file says it, in the order they are looked for.
EOS_NAMES = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|eos|>", "[EOS]", "[SEP]")
# BERT's names for the same: what it puts before a text and behind it is the beginning and the end of one.
_BERT = Roles(eos="[SEP]", pad="[PAD]", bos="[CLS]", mask="[MASK]")
# The largest there is, the tokenizer.json of 262,144 tokens, has 33 MB.
MOST_BYTES = 256 << 20


def settings(directory: Path) -> dict[str, Any]:
    """Return tokenizer_config.json over special_tokens_map.json, which older versions wrote; {} without both."""
    return read(directory / "special_tokens_map.json") | read(directory / "tokenizer_config.json")


def roles(directory: Path, has: Callable[[str], bool], defaults: Roles) -> Roles:
    """Return the names of the tokens with a role: as the files say, else of `defaults`; the end by a usual name.

    AssetError when a file names a token that the vocabulary does not have.
    """
    given = settings(directory)
    found = {role: content(given.get(f"{role}_token")) or None for role in Roles._fields}
    for role, name in (("bos", "cls_token"), ("eos", "sep_token")):
        found[role] = found[role] or content(given.get(name)) or None
    missing = [f"{role}_token {name!r}" for role, name in found.items() if name and not has(name)]
    if missing:
        raise AssetError(
            f"tokenizer_config.json in {directory} names {', '.join(missing)}, which the vocabulary beside it does not "
            "have; correct the name, or list the token with its id under added_tokens_decoder"
        )
    if not found["eos"] and not defaults.eos:
        found["eos"] = next((name for name in EOS_NAMES if has(name)), None)
        if found["eos"] == _BERT.eos:
            found |= {role: found[role] or name for role, name in _BERT._asdict().items() if name and has(name)}
    return Roles(**{role: found[role] or default for role, default in defaults._asdict().items()})


def added_tokens(directory: Path) -> dict[int, dict[str, Any]]:
    """Return the tokens that were added to a vocabulary, by id, with the fields of `tokenizers.AddedToken`."""
    older = {index: {"content": name} for name, index in read(directory / "added_tokens.json").items()}
    newer = settings(directory).get("added_tokens_decoder") or {}
    try:
        found = {**older, **{int(index): _fields(token) for index, token in newer.items()}}
        return dict(sorted(found.items()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AssetError(
            f"the added tokens in {directory} are not as transformers writes them ({type(error).__name__}: {error}); "
            "fetch its tokenizer_config.json and added_tokens.json again"
        ) from error


def chat_template(directory: Path) -> str | None:
    """Return the template of chat_template.jinja, which newer versions of transformers write, or of the settings."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        return untrusted.read_text(file, MOST_BYTES)
    found = settings(directory).get("chat_template")
    if isinstance(found, list):  # several by name
        found = {str(content(one, "name")): content(one, "template") for one in found}.get("default")
    if found is not None and not isinstance(found, str):
        raise AssetError(f"chat_template of tokenizer_config.json in {directory} is no text, nor a list with one")
    return found


def content(token: Any, key: str = "content") -> str:
    """Return the name of a token; older files write an added token as an object."""
    return str(token.get(key, "")) if isinstance(token, dict) else str(token or "")


def _fields(token: dict[str, Any]) -> dict[str, Any]:
    flags = ("lstrip", "rstrip", "normalized", "single_word", "special")
    return {"content": str(token["content"]), **{flag: bool(token[flag]) for flag in flags if flag in token}}


def read(path: Path) -> dict[str, Any]:
    """Return a JSON object, {} when the file is not there; AssetError when it is something else."""
    return untrusted.read_object(path, MOST_BYTES) if path.is_file() else {}
