"""MegaWika 2: Wikipedia of May 2024 as articles, JSON Lines by two-letter code.

An article is one line with its `text`, and with its markup, its elements and its citations, which make the line many
times larger: only `text` and `hash`, a stable id, are kept of it. The names of folders and files below the root are not
documented: a folder of the code's name is looked for wherever it lies.
"""

from __future__ import annotations

from functools import cache

from ettin_data.sources.base import Source
from ettin_data.sources.languages import subsets
from ettin_data.sources.members import Family

SOURCES = Family(
    Source(
        key="megawika2",
        category="reference",
        title="MegaWika 2",
        root="hf://datasets/jhu-clsp/megawika-2/",
        globs=("**/<member>/**",),
        format="jsonl",
        id_key="hash",
        licence="CC-BY-SA-4.0",
        pick=("jsonl",),
        shared="",
    ),
    cache(lambda: tuple(sorted({two for subset in subsets() for two in subset.two}))),
)
