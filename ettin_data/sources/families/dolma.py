"""Dolma v1.7: twelve of the thirteen pre-training sources (facts: upstream URL list, 2,419 files with two gaps).

Plain HTTPS, gzip JSON Lines, `text` and `id` on every record; everything else (`attributes`, `doc`, `metadata`,
`version`, …) changes from file to file and is read as free-form. The raw records of books, cc_news, reddit,
tulu_flan, arxiv and stackexchange have not been seen by us: only the contract of the Dolma toolkit is relied on.
"""

from __future__ import annotations

from typing import Final

from ettin_data.sources.base import Source
from ettin_data.sources.globs import expand

ROOT: Final = "https://olmo-data.org/dolma-v1_7/"
TERMS: Final = "https://huggingface.co/datasets/allenai/dolma"
LICENCE: Final = "ODC-BY"

# The official list, `urls/v1_7.txt` of allenai/dolma, as ranges. The five folders that Ettin does not use are here
# because the digest of the whole list proves the ranges of those that it does use.
URL_GLOBS: Final[tuple[str, ...]] = (
    "books/books-{0000..0002}.json.gz",
    "c4-filtered/c4-{0000..0170}.json.gz",
    "cc_en_head/cc_en_head-{0000..0274}.json.gz",
    "cc_en_middle/cc_en_middle-{0000..0379}.json.gz",
    "cc_en_tail/cc_en_tail-{0000..0444}.json.gz",
    "cc_news_head/cc_news-{0000..0004}.json.gz",
    "cc_news_middle/cc_news-{0000..0002}.json.gz",
    "cc_news_tail/cc_news-0000.json.gz",
    "falcon-refinedweb-filtered/falcon-{0000..0499}.json.gz",
    "pes2o/pes2o-{0000..0025}.json.gz",
    "proof_pile_2-algebraic_stack/algebraic-stack-train-{0000..0015}.json.gz",
    "proof_pile_2-open_web_math/open-web-math-train-{0000..0012}.json.gz",
    "reddit/reddit-{0000..0077}.json.gz",
    "redpajama-arxiv/arxiv-{0000..0099}.json.gz",
    "redpajama-stackexchange/stackexchange-{0000..0025}.json.gz",
    "starcoder/starcoder-{0000..0048}.json.gz",
    "tulu_flan/tulu_flan-{0000..0065}.json.gz",
    "wiki/wiki-{0000..0001}.json.gz",
    "wikiref_megawika/megawika-{0000..0261}.json.gz",
)
# Holes in the official list: these two numbers were never published.
GAPS: Final = frozenset({"cc_en_middle/cc_en_middle-0239.json.gz", "cc_en_tail/cc_en_tail-0153.json.gz"})


def urls() -> list[str]:
    """The official list of Dolma v1.7: 2,419 URLs, sorted as it is."""
    return sorted(ROOT + path for pattern in URL_GLOBS for path in expand(pattern) if path not in GAPS)


def _dolma(key: str, category: str, title: str, *globs: str, upstream: float | None, note: str = "") -> Source:
    return Source(
        key=key,
        category=category,
        title=title,
        root=ROOT,
        globs=globs,
        format="jsonl",
        licence=LICENCE,
        terms=TERMS,
        files=sum(len(expand(pattern)) for pattern in globs),
        upstream_tokens=None if upstream is None else round(upstream * 1e9),
        note=note,
    )


SOURCES: Final[tuple[Source, ...]] = (
    _dolma("arxiv", "scientific", "arXiv (RedPajama v1)", "redpajama-arxiv/arxiv-{0000..0099}.json.gz", upstream=28.0),
    _dolma(
        "books",
        "reference",
        "Books (Project Gutenberg)",
        "books/books-{0000..0002}.json.gz",
        upstream=5.3,
        note="decay takes about two passes",
    ),
    _dolma("cc_head", "crawl", "Common Crawl, head", "cc_en_head/cc_en_head-{0000..0274}.json.gz", upstream=None),
    _dolma(
        "cc_news",
        "news",
        "CC News",
        "cc_news_head/cc_news-{0000..0004}.json.gz",
        "cc_news_middle/cc_news-{0000..0002}.json.gz",
        "cc_news_tail/cc_news-0000.json.gz",
        upstream=14.3,
        note="file names repeat across the three folders; the published mix got about half",
    ),
    _dolma(
        "open_web_math",
        "math",
        "OpenWebMath (Proof-Pile-2)",
        "proof_pile_2-open_web_math/open-web-math-train-{0000..0012}.json.gz",
        upstream=12.6,
    ),
    _dolma(
        "algebraic_stack",
        "math",
        "AlgebraicStack (Proof-Pile-2)",
        "proof_pile_2-algebraic_stack/algebraic-stack-train-{0000..0015}.json.gz",
        upstream=12.6,
        note="the paper's table calls it Algebraic StackExchange; it is math code",
    ),
    _dolma("pes2o", "scientific", "peS2o (Semantic Scholar)", "pes2o/pes2o-{0000..0025}.json.gz", upstream=57.2),
    _dolma("reddit", "social", "Reddit", "reddit/reddit-{0000..0077}.json.gz", upstream=79.9),
    _dolma(
        "stackexchange",
        "social",
        "Stack Exchange (RedPajama v1)",
        "redpajama-stackexchange/stackexchange-{0000..0025}.json.gz",
        upstream=19.6,
    ),
    _dolma(
        "starcoder",
        "code",
        "StarCoder",
        "starcoder/starcoder-{0000..0048}.json.gz",
        upstream=263.8,
        note="about half of the texts start with literal <reponame>, <filename>, <gh_stars> markers",
    ),
    _dolma("tulu_flan", "instruction", "Tulu Flan", "tulu_flan/tulu_flan-{0000..0065}.json.gz", upstream=16.5),
    _dolma(
        "wikipedia",
        "reference",
        "Wikipedia and Wikibooks",
        "wiki/wiki-{0000..0001}.json.gz",
        upstream=3.7,
        note="pre-training takes about two passes",
    ),
)
