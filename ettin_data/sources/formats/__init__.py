"""The file formats that are read: one module each, with a `FORMAT`; `FORMATS` is what lies in this folder.

The content of a file decides how it is read; its name and what the source says are hints. Nothing outside of this
folder asks for a format by its name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from ettin_data.base.errors import SourceError, near
from ettin_data.base.modules import found_in
from ettin_data.sources.base import Damaged, Source, SourceFile, is_local
from ettin_data.sources.formats.content import not_data
from ettin_data.sources.formats.format import Format, Index

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT for module in found_in(__name__) if hasattr(module, "FORMAT")
}
"""Name -> format."""

_OBJECT = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:[^"\\\n]|\\.)*"[ \t]*:')
_ALSO_TEXT = ("html_instead_of_data", "json_array", "pretty_json")
"""What a file of this machine that is called a text may be as well."""

LINES = FORMATS["jsonl"]
"""What a file is taken for if neither its name nor its source says anything else."""


def named(name: str, *, where: object = None) -> Format:
    """The format that a recipe or a source names. Raises `SourceError` with near names and the list."""
    if name in FORMATS:
        return FORMATS[name]
    raise SourceError(
        f"there is no format {name!r}",
        where=where,
        why=f"the formats are {', '.join(FORMATS)}",
        remedy=f"{near(name, FORMATS)}; leave it out to let the names and the content of the files say it",
    )


def by_name(path: str) -> Format | None:
    """The format that the name of a file says, or None; the name of an index says more than its suffix."""
    said = [format for format in FORMATS.values() if format.names(path)]
    return max(said, key=lambda format: format.index is not None, default=None)


def of_root(root: str) -> Format | None:
    """The format that lists and fetches a root by itself, or None for a root with files."""
    return next((format for format in FORMATS.values() if format.scheme and root.startswith(format.scheme)), None)


def index_of(path: str) -> Index | None:
    """What reads a file that names the files of a data set, if the file is such an index."""
    found = by_name(path)
    return found.index if found and found.index and posixpath.basename(path) == found.index.name else None


def is_indexed(path: str) -> bool:
    """Whether a file is of a kind that an index has to name for it to be read."""
    found = by_name(path)
    return found is not None and found.index is not None and index_of(path) is None


def most_certain(paths: Iterable[str]) -> set[str]:
    """Of the files of a user's folder those that are the data, by their names: not the notes and tables beside them."""
    rank = {path: said.yields if (said := by_name(path)) else 0 for path in paths}
    least = min(rank.values(), default=0)
    return {path for path, number in rank.items() if number == least}


def certain(head: bytes) -> Format | None:
    """The format that the first bytes of a content say by themselves, such as parquet; None for lines of text."""
    return next((format for format in FORMATS.values() if format.signed and format.recognise(head)), None)


def as_text(head: bytes, source: Source, file: SourceFile) -> Format | None:
    """The format of plain text that the source or the name of a file says, unless the content is lines of objects."""
    said = next((hint for hint in _hints(source, file)[::-1] if hint.plain), None)
    return None if said is None or _OBJECT.match(head) else said


def of_content(head: bytes, source: Source, file: SourceFile) -> Format:
    """The format of a content of which `head` are the first bytes. Raises `Damaged` for what is no data."""
    if signed := certain(head):
        return signed
    text = as_text(head, source, file)
    if text and not head:
        return text
    if (problem := not_data(head)) and not (text and problem[0] in _ALSO_TEXT and is_local(source.root)):
        raise Damaged(*problem)
    if text:
        return text
    if found := next((format for format in FORMATS.values() if format.recognise(head)), None):
        return found
    for hint in _hints(source, file):
        if hint.signed:
            raise Damaged(f"not_{hint.name}", f"no {hint.name} header: {head[:16]!r}")
    return _hints(source, file)[-1]


def versions(source: Source, files: Iterable[SourceFile]) -> dict[str, int]:
    """Name -> version of the formats that these files are read as; for the fingerprint of a split."""
    hints = {hint.name: hint.version for file in files for hint in _hints(source, file)}
    return dict(sorted(hints.items()))


def expected_tokens(file: SourceFile) -> int:
    """ModernBERT tokens that a file (or its part) probably holds, from its size and the end of its name."""
    return (by_name(file.path) or LINES).expected_tokens(file)


def _hints(source: Source, file: SourceFile) -> list[Format]:
    """What the source and the name of a file say, the former first."""
    said = of_root(source.root) or FORMATS.get(source.format, LINES)
    shown = said if said.names(file.path) else by_name(file.path)
    return [said] if shown is None or said.scheme else [said, shown]
