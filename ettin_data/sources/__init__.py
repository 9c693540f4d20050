"""The sources of the Ettin mixture: where each is, how it is listed and how its files become records.

Sources know nothing of the stages that follow. `list_files` says what there is, `read_file` streams one file as
`Record`s and `Reject`s; formats, compressions and transports are decided inside.
"""

from __future__ import annotations

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
from ettin_data.sources.listing import list_files
from ettin_data.sources.mirror import with_root
from ettin_data.sources.parts import cut_files
from ettin_data.sources.reading import read_file
from ettin_data.sources.registry import REGISTRY, by_standing, get, known, standing, stated_licence
from ettin_data.sources.user_source import own_source

__all__ = [
    "REGISTRY", "ReadOptions", "Record", "Reject", "Source", "SourceCheck", "SourceFile", "TransportOptions",
    "by_standing", "check_source", "cut_files", "get", "is_local", "known", "list_files", "mirror_path", "own_source",
    "read_file", "standing", "stated_licence", "with_root",
]  # fmt: skip
