"""A copy of a tokenizer for others: its canonical files, a manifest, and a page that says what it is."""

from pathlib import Path

from codex_jax.tokenizers import loading, manifest, training
from codex_jax.tokenizers.kinds import kind_at
from codex_jax.tokenizers.tokenizer import Tokenizer, write_files


README = """# Tokenizer

{size:,} tokens, end of text: {eos}. SHA-256 of what it does: `{digest}`.

| file | SHA-256 |
|---|---|
{rows}

`{name}` holds the same, and how it was made where that is known; codex_jax verifies it whenever it loads these files.
Outside of codex_jax: {reader}.
"""
READERS = {
    "hf": "`transformers.AutoTokenizer.from_pretrained(DIRECTORY)`",
    "sentencepiece": '`sentencepiece.SentencePieceProcessor(model_file="tokenizer.model")`',
}


def export(source: Path, kind: str, destination: Path, *, force: bool) -> list[str]:
    """Write the tokenizer at `source` to a directory, and return the names of the files. An empty `kind`: what it is.

    AssetError when it cannot be loaded, or when something is in the directory, unless `force`.
    """
    training.refuse_to_overwrite(destination, force=force)
    made = loading.load(source, kind)
    known = manifest.read(source if source.is_dir() else source.parent)
    training.remove(destination)
    files = made.save(destination)
    manifest.write(destination, made, files, {key: known[key] for key in ("config", "corpus") if key in known})
    return [*files, manifest.NAME, *write_files(destination, {"README.md": _readme(made, destination).encode()})]


def _readme(made: Tokenizer, directory: Path) -> str:
    files = manifest.read(directory)["files"]
    return README.format(
        size=made.vocab_size,
        eos="none" if made.eos_id is None else f"`{made.piece(made.eos_id)}`, id {made.eos_id}",
        digest=made.digest,
        rows="\n".join(f"| {name} | `{sha256}` |" for name, sha256 in files.items()),
        name=manifest.NAME,
        reader=READERS.get(kind_at(directory), "see the package its kind is from"),
    )
