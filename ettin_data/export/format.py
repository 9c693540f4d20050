"""What a format of an export is, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ettin_data.base.errors import RecipeError, near
from ettin_data.base.modules import found_in
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

Samples = Iterator[tuple[str, AnyTokens]]
"""(id, token ids with framing) of the samples of a split, in the order of the shards; ids are uint16 or uint32."""


@dataclass(frozen=True)
class ExportFormat:
    """A format that a phase can be exported to.

    Attributes:
        name: as the command line says it.
        about: one sentence: who reads it, and what is in a file.
        write: writes the samples of one split into new files of a folder, `write(samples, vocabulary, folder, stem)`;
            every name begins with `stem`. The same samples give the same bytes.
    """

    name: str
    about: str
    write: Callable[[Samples, Vocabulary, Path, str], None]


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
