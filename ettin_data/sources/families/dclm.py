"""DCLM-baseline, parquet edition: half of the pre-training mix.

27,938 files four folders below the repository's root; six flat columns (`text`, `url`, `id`, `language`,
`language_score`, `fasttext_score`, the scores float32 or float64). Ids look like `<urn:uuid:…>`, brackets included.
Shard numbers have holes, so the tree is listed. The codec is not documented; parquet says it itself.
"""

from __future__ import annotations

from typing import Final

from ettin_data.sources.base import Source

REVISION: Final = "817d6752765f6a41261085171dd546b104f60626"
ROOT: Final = f"hf://datasets/mlfoundations/dclm-baseline-1.0-parquet@{REVISION}/"
TERMS: Final = "https://huggingface.co/datasets/mlfoundations/dclm-baseline-1.0-parquet"

SOURCES: Final[tuple[Source, ...]] = (
    Source(
        key="dclm",
        category="crawl",
        title="DCLM-baseline",
        root=ROOT,
        globs=(
            "filtered/OH_eli5_vs_rw_v2_bigram_200k_train/fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train/"
            "processed_data/global-shard_{01..10}_of_10/local-shard_{0..9}_of_10/shard_*_processed.parquet",
        ),
        format="parquet",
        licence="CC-BY-4.0",
        terms=TERMS,
        files=27_938,
        bytes=7_420_000_000_000,
        upstream_tokens=3_860_000_000_000,
        note="about 80% near-duplicates across its shards",
    ),
)
