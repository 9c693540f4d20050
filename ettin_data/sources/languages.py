"""The languages of multilingual corpora in one table: codes, scripts, sizes, and the tokens that mmBERT has of each.

Two tables travel with the package, compressed, in `sources/tables/`:

* `languages.csv`: every subset of FineWeb2 that holds text for training, with its code (ISO 639-3), script (ISO 15924)
  and sizes, from `fineweb2-language-distribution.csv` of github huggingface/fineweb-2@d0defb2 (SHA-256
  `FINEWEB2_SHA256`); whether FineWeb2-HQ has it; and the two-letter codes (ISO 639-1) that mean it, as Wikipedia and
  MegaWika 2 use them. For a macrolanguage that is the member which FineWeb2 has most of: zh is cmn, ar is arb, no and
  nb are nob. English and the codes that only mmBERT has are rows without a subset.
* `mmbert.csv`: tokens of each language in each phase, byte for byte `statistics/language_counts.csv` of github
  JHU-CLSP/mmBERT@108ffb3 (SHA-256 `MMBERT_SHA256`).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from ettin_data.base.errors import SourceError, near

FINEWEB2_SHA256 = "0c6e6fbcef62cb034aff493187dee8d327c6bb2c08bb14a81a9c7221b091e0a5"
MMBERT_SHA256 = "72ede73c11cb1d7a5946a2a08effca7a175e3fa15c8b5ce017932d0fa733d9bb"

Size = Literal["words", "documents", "bytes"]


@dataclass(frozen=True)
class Subset:
    """A language in one script.

    Attributes:
        name: of FineWeb2's subset, such as `deu_Latn`; "" where it has none.
        code, script: ISO 639-3 and ISO 15924; the script is "" where it is not known.
        two: ISO 639-1 codes that mean the language.
        language: its English name.
        words, documents, bytes: of FineWeb2's training text, bytes in UTF-8; 0 where they are not known.
        hq: whether FineWeb2-HQ has the subset.
    """

    name: str
    code: str
    script: str
    two: tuple[str, ...]
    language: str
    words: int
    documents: int
    bytes: int
    hq: bool


@cache
def subsets() -> tuple[Subset, ...]:
    """Every row of the table, by code, then by name."""
    return tuple(
        Subset(
            row["subset"], row["code"], row["script"], tuple(row["two"].split()), row["name"],
            int(row["words"] or 0), int(row["documents"] or 0), int(row["bytes"] or 0), row["hq"] == "1",
        )
        for row in csv.DictReader(_text("languages").splitlines())
    )  # fmt: skip


def sizes(by: Size) -> dict[str, int]:
    """Code -> size of all its subsets together, of codes that have one; mmBERT's data add up scripts likewise."""
    total: dict[str, int] = defaultdict(int)
    for subset in subsets():
        total[subset.code] += int(getattr(subset, by))
    return {code: size for code, size in total.items() if size}


def code_of(name: str) -> str:
    """The ISO 639-3 code of a two-letter or three-letter code or of a subset, such as `zh`, `cmn`, `cmn_Hani`.

    Raises `SourceError` for a name that the table does not have.
    """
    names = _codes()
    if (code := names.get(name)) is not None:
        return code
    raise SourceError(f"no language is called {name!r}", remedy=near(name, names))


@cache
def published() -> dict[str, dict[str, int]]:
    """mmBERT's tokens: phase (`pretrain`, `ext`, `decay-eng`, `decay-mid`, `decay-all`) -> code -> tokens.

    Codes are bare ISO 639-3, and `code`, which is program text. Those without tokens in a phase are left out.
    """
    rows = list(csv.DictReader(_text("mmbert").splitlines()))
    phases = [name for name in rows[0] if name != "language"]
    return {phase: {row["language"]: int(row[phase]) for row in rows if int(row[phase])} for phase in phases}


def table_digest(name: Literal["languages", "mmbert"]) -> str:
    """SHA-256 of the text of a table."""
    return hashlib.sha256(_text(name).encode()).hexdigest()


@cache
def _codes() -> dict[str, str]:
    found: dict[str, str] = {}
    for subset in subsets():
        found |= dict.fromkeys((subset.code, *subset.two, *filter(None, (subset.name,))), subset.code)
    return found


def _text(name: str) -> str:
    packed = resources.files("ettin_data.sources").joinpath("tables", f"{name}.csv.gz").read_bytes()
    return gzip.decompress(packed).decode()
