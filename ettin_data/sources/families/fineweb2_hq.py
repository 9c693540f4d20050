"""FineWeb2-HQ: the best tenth of FineWeb2 in twenty languages, by a classifier; parquet.

Files lie in `<code>_<Script>/`, with no `train/` between. Every row carries its embedding, many times larger than its
text: the parquet reader takes text, id and url, and no other column is ever decoded.
"""

from __future__ import annotations

from functools import cache

from ettin_data.sources.base import Source
from ettin_data.sources.languages import subsets
from ettin_data.sources.members import Family

SOURCES = Family(
    Source(
        key="fineweb2_hq",
        category="crawl",
        title="FineWeb2-HQ",
        root="hf://datasets/epfml/FineWeb2-HQ@c0c06e94fd3a44ae9e802b2b0fc533817601eb5e/",
        globs=("<member>/*.parquet",),
        format="parquet",
        licence="ODC-BY",
        shared="",
    ),
    cache(lambda: tuple(sorted(subset.name for subset in subsets() if subset.hq))),
)
