"""Real text in many languages: the messages that installed programs show, from their catalogues (`gettext`, `.mo`).

Debian keeps them below `/usr/share/locale`, Python packages below a `locale` of their own. A locale such as `de`,
`pt_BR` or `sr@latin` is a subset of FineWeb2 (`deu_Latn`, `por_Latn`, `srp_Latn`), as far as the table of languages
knows it. What is gathered is a function of the installation alone; no message is taken twice in a language, and none
that is not translated.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from ettin_data.base import draws
from ettin_data.base.errors import SourceError
from ettin_data.demo.text import Work, distributions
from ettin_data.sources.languages import code_of, subsets

FOLDERS = ("/usr/share/locale", f"{sys.base_prefix}/share/locale")
_SCRIPTS = {"latin": "Latn", "Latn": "Latn", "iqtelif": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva"}
_BYTE_ORDERS = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}
_CHARSET = re.compile(rb"charset=([A-Za-z0-9_.:-]+)")
_SHORTEST = 20  # characters: labels of buttons are no text
_MOST_BYTES = 1 << 26  # of a catalogue


@dataclass(frozen=True, slots=True, order=True)
class Catalogue:
    """The messages of one program in one language; `name` does not depend on where they are installed: `de/tar`."""

    name: str
    subset: str
    path: str
    size: int


def installed() -> list[Catalogue]:
    """Every catalogue of a language that FineWeb2 has, sorted by name; of two of the same name the first found."""
    found: dict[str, Catalogue] = {}
    for path in _paths():
        locale, domain = PurePosixPath(path).parts[-3], PurePosixPath(path).stem
        name = f"{locale}/{domain}"
        if name not in found and (subset := subset_of(locale)) is not None and os.path.isfile(path):
            found[name] = Catalogue(name, subset, path, os.path.getsize(path))
    return sorted(found.values())


def _paths() -> Iterator[str]:
    """`.../<locale>/LC_MESSAGES/<domain>.mo`: of the system, then of the environment's packages."""
    for folder in FOLDERS:
        yield from map(str, sorted(Path(folder).glob("*/LC_MESSAGES/*.mo")))
    for distribution in distributions().values():
        names = (line.partition(",")[0] for line in (distribution.read_text("RECORD") or "").splitlines())
        for name in names:
            if name.endswith(".mo") and PurePosixPath(name).parent.name == "LC_MESSAGES" and ".." not in name:
                yield str(distribution.locate_file(name))


@cache
def subset_of(locale: str) -> str | None:
    """FineWeb2's subset of a locale, in its most frequent script where none is said; None where there is none."""
    base, _, modifier = locale.partition("@")
    if modifier and modifier not in _SCRIPTS:
        return None  # a dialect, a spelling or signs of quotation
    try:
        code = code_of(base.partition("_")[0])
    except SourceError:
        return None
    script = _SCRIPTS.get(modifier)
    rows = [row for row in subsets() if row.code == code and row.name and script in (None, row.script)]
    return max(rows, key=lambda row: row.bytes).name if rows else None


def gather(catalogues: Sequence[Catalogue], most: int) -> dict[str, list[Work]]:
    """Subset -> its works, a catalogue each, until they have `most` characters, in an order keyed by their names."""
    works: dict[str, list[Work]] = {}
    held: dict[str, int] = {}
    seen: dict[str, set[str]] = {}
    for each in sorted(catalogues, key=lambda each: draws.document_key(each.name)):
        if held.get(each.subset, 0) >= most or each.size > _MOST_BYTES:
            continue
        known, passages = seen.setdefault(each.subset, set()), []
        for text in messages(Path(each.path).read_bytes()):
            if len(text) >= _SHORTEST and text not in known:
                known.add(text)
                passages.append(f"{text.strip()}\n")
        if passages:
            works.setdefault(each.subset, []).append(Work(each.name, each.name.partition("/")[2], tuple(passages)))
            held[each.subset] = held.get(each.subset, 0) + sum(map(len, passages))
    return dict(sorted(works.items()))


def messages(data: bytes) -> list[str]:
    """The translated messages of a catalogue, in its order; of a plural the first form. What is damaged is left out."""
    order = _BYTE_ORDERS.get(data[:4])
    if order is None:
        return []
    pairs = []
    try:
        _, count, originals, translations = struct.unpack_from(f"{order}4I", data, 4)
        for number in range(min(count, len(data) // 16)):
            ends = (struct.unpack_from(f"{order}2I", data, table + 8 * number) for table in (originals, translations))
            pairs.append(tuple(data[start : start + length] for length, start in ends))
    except struct.error:
        return []
    header = next((there for here, there in pairs if not here), b"")
    charset = found[1].decode("ascii") if (found := _CHARSET.search(header)) else "utf-8"
    texts = []
    for here, there in pairs:
        if here and there and here.partition(b"\x04")[2] != there != here:
            try:
                texts.append(there.partition(b"\0")[0].decode(charset))
            except (UnicodeDecodeError, LookupError):
                continue
    return texts
