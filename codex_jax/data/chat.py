"""Chats through a template as transformers defines it, so that no message can write a control token.

The template never sees what a message says. It gets a mark that nobody can guess in its place, and what it writes is
cut at the marks: what lies between them is its own and may hold control tokens, what a message says may not.
"""

import datetime
import functools
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from codex_jax.data.documents import Piece, Turn
from codex_jax.errors import ConfigError


_SECRET = "x" + secrets.token_hex(16)
# White space in the eyes of a template that strips its messages, and no character that one writes.
_EDGE = "\x1f"
_MARK = re.compile(f"{_SECRET}([<>])|({_EDGE}?){_SECRET}(\\d{{8}})({_EDGE}?)")
# A model that learns from today what day it is would differ from the one trained tomorrow.
_NOW = datetime.datetime(2024, 7, 26)


class ChatTemplate(NamedTuple):
    """How a chat is written down."""

    text: str = ""
    """a jinja template as transformers defines it; empty: none"""
    tokens: tuple[tuple[str, str], ...] = ()
    """the special tokens it may name, as bos_token and its spelling"""


class Refused(Exception):
    """The template does not take a chat; the message quotes none of it."""


class Compiled:
    """A template, tried on a short chat."""

    def __init__(self, template: ChatTemplate) -> None:
        """Compile and try it; ConfigError when it cannot be used."""
        self._tokens = template.tokens
        try:
            self._render = _environment().from_string(template.text).render
            trial = self.write([("user", _mark(0)), ("assistant", _mark(1))])
        except (jinja2.TemplateError, Refused) as error:
            raise ConfigError(
                f"the chat template cannot be used: {error}; name another in data.chat_template"
            ) from error
        if _mark(1) not in trial:
            raise ConfigError("the chat template writes no answer: name another in data.chat_template")
        self._has_tags = f"{_SECRET}<" in trial
        # What ends an answer is what follows the last one: the model has to learn to write it.
        self._ending = trial[trial.rindex(_mark(1)) + len(_mark(1)) :]

    def write(self, messages: Sequence[tuple[str, str]]) -> str:
        """Return the chat as the template writes it; Refused when it does not."""
        chat = [{"role": role, "content": content} for role, content in messages]
        try:
            text = self._render(
                messages=chat, tools=None, documents=None, add_generation_prompt=False, **dict(self._tokens)
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            # The error may name a message, and there is nothing but its mark in it.
            raise Refused(f"the chat template refuses it: {error}".replace(_SECRET, "")) from error
        if _SECRET[:9] in _MARK.sub("", text).lower() or _EDGE in _MARK.sub("", text):
            raise Refused("the chat template changes what messages say")
        return text

    def lay_out(self, turns: Sequence[Turn]) -> list[Piece]:
        """Return the pieces of a chat; learnt are answers and what ends them, or what the template marks as such."""
        contents = [_Content(turn) for turn in turns]
        text = self.write([(content.role, content.shown(index)) for index, content in enumerate(contents)])
        pieces: list[Piece] = []
        done, generates, answered = 0, False, False
        for match in _MARK.finditer(text):
            pieces += self._own(text[done : match.start()], generates, answered)
            done = match.end()
            tag, before, index, behind = match.groups()
            if tag:
                generates = tag == "<"
                continue
            content = contents[int(index)]
            answered = content.role == "assistant" and not self._has_tags
            pieces += content.pieces(bool(before), bool(behind), learnt=generates or answered)
        return _with_blanks_before([*pieces, *self._own(text[done:], generates, answered)])

    def _own(self, text: str, generates: bool, answered: bool) -> Iterator[Piece]:
        """Yield what the template itself wrote in one place."""
        ending = self._ending if answered and text.startswith(self._ending) else ""
        if ending:
            yield Piece(ending, learnt=True, special=True)
        if text := text.removeprefix(ending):
            yield Piece(text, learnt=generates, special=True)


def _with_blanks_before(pieces: Sequence[Piece]) -> list[Piece]:
    """Give the white space before what is said to it: a tokenizer has one token for a word and the blank before it.

    Not where only one of both is learnt: a token is of one or of the other.
    """
    made: list[Piece] = []
    for piece in pieces:
        if made and made[-1].special and not (piece.special or piece.learnt or made[-1].learnt):
            own = made.pop()
            kept = own.text.rstrip()
            made += [own._replace(text=kept)] if kept else []
            piece = piece._replace(text=own.text[len(kept) :] + piece.text)
        made.append(piece)
    return made


class _Content:
    """What a message says, without the white space at its ends, which a template may strip."""

    def __init__(self, turn: Turn) -> None:
        self.role = turn.role
        self._whole = "".join(piece.text for piece in turn.pieces)
        self._pieces = list(turn.pieces)
        self._before = self._whole[: len(self._whole) - len(self._whole.lstrip())]
        self._behind = self._whole[len(self._whole.rstrip()) :]

    def shown(self, index: int) -> str:
        """Return what the template sees in its place."""
        if not self._whole.strip():
            return self._whole  # a template may ask whether there is something
        return _EDGE * bool(self._before) + _mark(index) + _EDGE * bool(self._behind)

    def pieces(self, before: bool, behind: bool, *, learnt: bool) -> Iterator[Piece]:
        """Yield its pieces, with the white space that the template left."""
        last = len(self._pieces) - 1
        for index, (text, keep, *_) in enumerate(self._pieces):
            if index == 0 and not before:
                text = text.lstrip()
            if index == last and not behind:
                text = text.rstrip()
            if text:
                yield Piece(text, keep and learnt)


@functools.lru_cache(maxsize=4)
def compiled(template: ChatTemplate) -> Compiled:
    """Return the template, compiled once in a process."""
    return Compiled(template)


def _mark(index: int) -> str:
    return f"{_SECRET}{index:08d}"


class _Generation(jinja2.ext.Extension):
    """The tag that a template puts around what the model is to write."""

    tags = {"generation"}  # noqa: RUF012 (so the base class has it)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        return f"{_SECRET}<{caller()}{_SECRET}>"


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Return what transformers renders templates in."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _NOW.strftime
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, **layout: Any) -> str:
    """Return JSON without the escapes for HTML of jinja's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **layout)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
