"""Text in line protocol, so that any text comes back as it was written and touches nothing else.

A tag cannot hold a control character, cannot end in a backslash and cannot be empty; such a text is written as its JSON
string, and so is one that begins with a quote, which keeps the two apart. A field can hold anything but more than 64 kB;
a longer text goes on in further fields.
"""

from __future__ import annotations

import hashlib
import json

TAG_LIMIT = 400
"""Characters of a tag: an agent's id has at most 128; whatever is longer is cut and told apart by a digest."""
FIELD_LIMIT_BYTES = 60_000
_TAG = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_FIELD = str.maketrans({"\\": "\\\\", '"': '\\"'})


def tag_text(text: str) -> str:
    """What stands in a tag for this text; another one for every other text of up to `TAG_LIMIT` characters."""
    if len(text) > TAG_LIMIT:
        text = text[: TAG_LIMIT - 20] + "…" + hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return plain_text(text)


def plain_text(text: str) -> str:
    """The text, or its JSON string where a line could not hold it; `text_of_tag` is the way back."""
    plain = text.isprintable() and not text.endswith("\\") and not text.startswith('"')
    return text if plain else json.dumps(text)


def text_of_tag(tag: str) -> str:
    """The text of a tag that `tag_text` made."""
    return str(json.loads(tag)) if tag.startswith('"') else tag


def tag(key: str, text: str) -> str:
    """``,key=value`` of line protocol; nothing for an empty text, because an empty tag is no tag."""
    return f",{key}={tag_text(text).translate(_TAG)}" if text else ""


def quoted(text: str) -> str:
    """A text field's value. It must hold no end of line: see `one_line`."""
    return '"' + text.translate(_FIELD) + '"'


def one_line(text: str) -> str:
    """What people wrote, for people: ends of lines become spaces, because a batch is taken apart at them."""
    return text.replace("\n", " ").replace("\r", " ")


def text_fields(name: str, text: str) -> list[str]:
    """``name="…"``, and for a long text ``name_2="…"`` and so on, no piece over 60,000 bytes."""
    if len(text) * 4 <= FIELD_LIMIT_BYTES or len(text.encode()) <= FIELD_LIMIT_BYTES:
        return [f"{name}={quoted(text)}"]
    size = FIELD_LIMIT_BYTES // 4  # no character has more than four bytes
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return [f"{name}{f'_{number}' if number > 1 else ''}={quoted(piece)}" for number, piece in enumerate(pieces, 1)]
