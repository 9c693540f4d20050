"""What a format of an export is, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ettin_data.base.errors import RecipeError, near
from ettin_data.base.modules import found_in
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

Samples = Iterator[tuple[str, AnyTokens]]
"""(id, token ids with framing) of samples one after the other; ids are uint16 or uint32."""


@dataclass(frozen=True)
class Whole:
    """What a format may say of all files together.

    Attributes:
        part: "train" or "validation".
        files: path of each file, in the order of the samples -> its bytes and samples.
        vocabulary: of the samples.
    """

    part: str
    files: Mapping[str, tuple[int, int]]
    vocabulary: Vocabulary


@dataclass(frozen=True)
class ExportFormat:
    """A format that a phase can be exported to.

    Attributes:
        name: as the command line says it.
        about: one sentence: who reads it, and what is in a file.
        write: writes some samples into new files of a folder, `write(samples, vocabulary, folder, stem)`; every name
            begins with `stem`. The same samples give the same bytes.
        beside: name -> text of files that lie in the exported folder itself, written when all others are there.
    """

    name: str
    about: str
    write: Callable[[Samples, Vocabulary, Path, str], None]
    beside: Callable[[Whole], Mapping[str, str]] | None = None


def export_formats() -> dict[str, ExportFormat]:
    """The formats, by name: every module of this folder that has `EXPORT`."""
    assert __package__
    found = [module.EXPORT for module in found_in(__package__) if hasattr(module, "EXPORT")]
    return {each.name: each for each in found}


def choose_format(name: str) -> ExportFormat:
    """The format of a name. Raises `RecipeError` with near names."""
    known = export_formats()
    if name not in known:
        raise RecipeError(f"there is no export format {name!r}", where="--to", remedy=near(name, known))
    return known[name]
