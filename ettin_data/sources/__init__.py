"""The sources of the Ettin mixture: where each is, how it is listed and how its files become records.

Sources know nothing of the stages that follow. `list_files` says what there is, `read_file` streams one file as
`Record`s and `Reject`s; formats, compressions and transports are decided inside.
"""

from __future__ import annotations

import difflib

from ettin_data.base.errors import SourceError
from ettin_data.sources.base import (
    ReadOptions,
    Record,
    Reject,
    Source,
    SourceFile,
    TransportOptions,
    is_local,
    mirror_path,
)
from ettin_data.sources.check import SourceCheck, check_source
from ettin_data.sources.families import dclm, dolma, dolmino, prolong
from ettin_data.sources.families.user_source import own_source
from ettin_data.sources.listing import list_files
from ettin_data.sources.mirror import with_root
from ettin_data.sources.parts import cut
from ettin_data.sources.reading import read_file

__all__ = [
    "REGISTRY", "ReadOptions", "Record", "Reject", "Source", "SourceCheck", "SourceFile", "TransportOptions",
    "check_source", "cut", "get", "is_local", "list_files", "mirror_path", "own_source", "read_file", "with_root",
]  # fmt: skip

_ORDER = (
    "arxiv", "books", "cc_head", "cc_news", "code_repos", "dclm", "dclm_dolmino", "math_dolmino", "open_web_math",
    "algebraic_stack", "pes2o", "reddit", "stackexchange", "stackexchange_dolmino", "starcoder", "textbooks",
    "tulu_flan", "wikipedia",
)  # fmt: skip
_ALL = {source.key: source for family in (dolma, dclm, dolmino, prolong) for source in family.SOURCES}
REGISTRY: dict[str, Source] = {key: _ALL[key] for key in _ORDER}
"""The 18 sources, in the order of the mixture table (design 5.8)."""


def get(key: str) -> Source:
    """The source of a key. Raises `SourceError` that names near matches."""
    if key in REGISTRY:
        return REGISTRY[key]
    near = difflib.get_close_matches(key, REGISTRY, n=3, cutoff=0.5)
    raise SourceError(
        f"there is no source {key!r}",
        why=f"near: {', '.join(near)}" if near else None,
        remedy=f"one of {', '.join(REGISTRY)}; or your own: --add-source {key}=path_or_url:tokens",
    )
