"""FineWeb2: Common Crawl in 1,868 languages and scripts, parquet.

`data/<code>_<Script>/train/` is what is read. `test/` is held out upstream, and `data/<code>_<Script>_removed/` is what
filtering took out: neither is ever a source, for members are names of the table of languages. Ids look like
`<urn:uuid:…>`. All members together are listed once: a call for each meets the hub's limit (HTTP 429).
"""

from __future__ import annotations

from functools import cache

from ettin_data.sources.base import Source
from ettin_data.sources.languages import subsets
from ettin_data.sources.members import Family

SOURCES = Family(
    Source(
        key="fineweb2",
        category="crawl",
        title="FineWeb2",
        root="hf://datasets/HuggingFaceFW/fineweb-2/",
        globs=("data/<member>/train/*.parquet",),
        format="parquet",
        licence="ODC-BY",
        shared="data/",
    ),
    cache(lambda: tuple(sorted(subset.name for subset in subsets() if subset.name))),
)
