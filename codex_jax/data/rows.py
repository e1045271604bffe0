"""A row with named fields becomes a document, whatever kind of file it was read from, and the other way round.

A row that has data.messages_field is a chat; one that has data.prompt_field and data.completion_field is an
instruction with its answer; any other is the text of data.text_field. With data.objective=classes all are texts, each
of the class that data.label_field names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from codex_jax import amounts, config
from codex_jax.data import documents, labels
from codex_jax.data.documents import BadRow, Document, Part


ROLES = ("system", "user", "assistant", "tool")
# What a file of JSON calls its values; a table can hold others.
_KINDS = {str: "a string", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def to_document(row: Mapping[str, Any], offset: int | None, data: config.Data) -> Document | BadRow:
    """Return the document of a row, or what is wrong with it, in words that never quote it."""
    if data.objective == "classes":
        return _labelled(row, offset, data)
    if row.get(data.messages_field) is not None:
        made = _messages(row[data.messages_field], data.messages_field)
    elif data.prompt_field in row and data.completion_field in row:
        made = _fields(row, {data.prompt_field: "prompt", data.completion_field: "completion"})
    elif data.text_field in row:
        made = _fields(row, {data.text_field: "text"})
    else:
        made = f"has no field {data.text_field!r}"
    if isinstance(made, str):
        return BadRow(offset, made)
    return documents.of_parts(made, offset)


def to_row(parts: Sequence[Part], label: int | None, data: config.Data) -> dict[str, Any]:
    """Return the row that `to_document` makes a document of these parts and this class of."""
    if label is not None:
        return {data.text_field: parts[0].text, data.label_field: data.labels[label]}
    fields = {"text": data.text_field, "prompt": data.prompt_field, "completion": data.completion_field}
    if parts[0].role in fields:
        return {fields[part.role]: part.text for part in parts}
    return {data.messages_field: [{"role": part.role, "content": part.text} for part in parts]}


def kind(value: Any) -> str:
    """Return what sort of value it is, in words that do not quote it."""
    return "null" if value is None else _KINDS.get(type(value), f"of type {type(value).__name__}")


def _fields(row: Mapping[str, Any], roles: Mapping[str, str]) -> list[Part] | str:
    wrong = [_wrong(row[name], f"field {name!r}") for name in roles]
    return next(filter(None, wrong), None) or [Part(row[name], role) for name, role in roles.items()]


def _labelled(row: Mapping[str, Any], offset: int | None, data: config.Data) -> Document | BadRow:
    if missing := [name for name in (data.text_field, data.label_field) if name not in row]:
        return BadRow(offset, f"has no field {missing[0]!r}")
    made, value = _fields(row, {data.text_field: "text"}), row[data.label_field]
    if isinstance(made, str):
        return BadRow(offset, made)
    label = labels.number(value, data.labels)
    if label is None:
        wrong = labels.none_of(data.labels) if isinstance(value, str | int) else f"is not a label but {kind(value)}"
        return BadRow(offset, f"field {data.label_field!r} {wrong}")
    return documents.of_parts(made, offset)._replace(label=label)


def _messages(messages: Any, field: str) -> list[Part] | str:
    if not isinstance(messages, list) or not messages:
        return f"field {field!r} is not a list of messages but " + ("empty" if messages == [] else kind(messages))
    parts = []
    for number, message in enumerate(messages, 1):
        name = f"message {number} of field {field!r}"
        if not isinstance(message, dict):
            return f"{name} is not an object but {kind(message)}"
        present = {key for key, value in message.items() if value is not None}
        if present != {"role", "content"}:
            # What a template would make of other keys is not redacted and could hold control tokens.
            return f"{name} has not just role and content, but {amounts.counted(len(present), 'field')}"
        if not isinstance(message["role"], str) or message["role"] not in ROLES:
            return f"{name} has a role that is none of {', '.join(ROLES)}"
        if wrong := _wrong(message["content"], f"the content of {name}"):
            return wrong
        parts.append(Part(message["content"], message["role"]))
    return parts


def _wrong(value: Any, name: str) -> str:
    if not isinstance(value, str):
        return f"{name} is not a string but {kind(value)}"
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"{name} holds half of a surrogate pair"
    return ""
