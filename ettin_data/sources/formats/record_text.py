"""What can be a document's text, and the one thing that may be taken off it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ettin_data.sources.base import Record, Reject
from ettin_data.sources.formats.format import Items

# The StarCoder preparation puts these in front of a file's text, each at most once and in this order, then a newline.
_MARKERS = re.compile(r"(?:<reponame>[^<\n]*)?(?:<filename>[^<\n]*)?(?:<gh_stars>[^<\n]*)?\n?")


def text_problem(text: object) -> tuple[str, str] | None:
    """(reason, detail) if a value cannot be a document's text."""
    if type(text) is str:
        if not text:
            return "text_empty", "''"
        return ("text_blank", repr(text[:40])) if text.isspace() else None
    if text is None:
        return "text_null", "null"
    return "text_not_string", f"{type(text).__name__}: {str(text)[:80]}"


def value_at(row: Mapping[str, Any], key: str) -> Any:
    """The value of a key of a record; a key with dots that the record has not leads into it, `a.b` to `b` in `a`.

    Raises `KeyError` where nothing is.
    """
    if key in row:
        return row[key]
    at: Any = row
    for part in key.split("."):
        if not isinstance(at, Mapping):
            raise KeyError(key)
        at = at[part]
    return at


def strip_starcoder(text: str) -> str:
    """The text without the `<reponame>…<filename>…<gh_stars>…` line in front, if it has one."""
    if not text.startswith(("<reponame>", "<filename>", "<gh_stars>")):
        return text
    match = _MARKERS.match(text)
    return text[match.end() :] if match else text


def stripped(items: Items) -> Items:
    """The items, texts without StarCoder's markers; a text of nothing else is rejected. Token ids stay as they are."""
    for item in items:
        if isinstance(item, Record) and item.tokens is None:
            item.text = strip_starcoder(item.text)
            if not item.text or item.text.isspace():
                item = Reject(item.position, "text_empty", "only StarCoder markers")
        yield item
