"""Dolmino-mix-1124: DCLM, math and Stack Exchange of the extension and decay phases.

JSON Lines in several compressions, mixed inside `data/math`. Keys per file are not documented beyond `text`; in math
some ids are missing or null, so the fallback id is common there.
"""

from __future__ import annotations

from typing import Final

from ettin_data.sources.base import Source

REVISION: Final = "bb54cab"
ROOT: Final = f"hf://datasets/allenai/dolmino-mix-1124@{REVISION}/"
TERMS: Final = "https://huggingface.co/datasets/allenai/dolmino-mix-1124"

SOURCES: Final[tuple[Source, ...]] = (
    Source(
        key="dclm_dolmino",
        category="crawl",
        title="DCLM (Dolmino)",
        root=ROOT,
        globs=("data/dclm/**/dclm-*.json.zst",),
        format="jsonl",
        licence="ODC-BY (part CC-BY-4.0)",
        terms=TERMS,
        files=1970,
        upstream_tokens=752_000_000_000,
    ),
    Source(
        key="math_dolmino",
        category="math",
        title="Math (Dolmino)",
        root=ROOT,
        globs=("data/math/**/*.{jsonl,jsonl.gz,jsonl.zst,json.gz,json.zst}",),
        format="jsonl",
        licence="ODC-BY (mixed parts)",
        terms=TERMS,
        files=5129,
        upstream_tokens=10_700_000_000,
        note="holds GSM8K's training set and derivatives",
    ),
    Source(
        key="stackexchange_dolmino",
        category="social",
        title="Stack Exchange (Dolmino)",
        root=ROOT,
        globs=("data/stackexchange/stackexchange-{0000..0015}.json.gz",),
        format="jsonl",
        licence="CC-BY-SA content, ODC-BY repository",
        terms=TERMS,
        files=16,
        upstream_tokens=1_260_000_000,
        note="two passes in extension, three in decay",
    ),
)
