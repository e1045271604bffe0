"""How the parts of a document, already redacted, become the pieces a model learns from."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from codex_jax import config, digest
from codex_jax.data import chat
from codex_jax.data.chat import ChatTemplate
from codex_jax.data.documents import Piece, Turn
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers.tokenizer import Tokenizer


Layout = Callable[[Sequence[Turn]], list[Piece]]


def contents(turns: Sequence[Turn]) -> list[Piece]:
    """Return what the parts say and nothing else: what a tokenizer is trained on."""
    return [piece for turn in turns for piece in turn.pieces]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Text is learnt as it is, of an instruction the answer, of a chat what the assistant says."""

    separator: str
    template: ChatTemplate
    """of the chats; its text is empty where there is none"""

    def __call__(self, turns: Sequence[Turn]) -> list[Piece]:
        """Return the pieces of a document; chat.Refused when the template does not take it, ConfigError without one."""
        if turns[0].role == "text":
            return turns[0].pieces
        if turns[0].role == "prompt":
            return self._instruction(*turns)
        if not self.template.text:
            raise ConfigError(
                "there are chats in the data, but the tokenizer has no chat template: "
                "name a file with one in data.chat_template"
            )
        return chat.compiled(self.template).lay_out(turns)

    def content(self) -> dict[str, str]:
        """Return what decides how documents are laid out."""
        return {"prompt_separator": self.separator, "chat template": digest.of_json(list(self.template))}

    def _instruction(self, prompt: Turn, completion: Turn) -> list[Piece]:
        # The separator is given to the tokenizer with the instruction, as it is when the model is asked for an answer.
        pieces = prompt.pieces or [Piece("", learnt=False)]
        pieces = [*pieces[:-1], pieces[-1]._replace(text=pieces[-1].text + self.separator)]
        return [*(Piece(piece.text, learnt=False) for piece in pieces if piece.text), *completion.pieces]


def for_training(data: config.Data, tokenizer: Tokenizer) -> Training:
    """Return the layout with data.chat_template, or the tokenizer's own; AssetError when the file cannot be read."""
    text = tokenizer.chat_template or ""
    if data.chat_template:
        try:
            text = Path(data.chat_template).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AssetError(f"data.chat_template={data.chat_template} cannot be read: {error}") from error
    names = {f"{role}_token": name for role, name in tokenizer.roles._asdict().items() if name}
    return Training(separator=data.prompt_separator, template=ChatTemplate(text, tuple(sorted(names.items()))))
