"""What the demo mirror holds of each source: how much, of which text, in documents of which length, in which files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ettin_data.demo.deal import Shape

_DOLMA = "olmo-data.org/dolma-v1_7"
_DOLMINO = "datasets/allenai/dolmino-mix-1124/data"
_DCLM = (
    "datasets/mlfoundations/dclm-baseline-1.0-parquet/filtered/OH_eli5_vs_rw_v2_bigram_200k_train/"
    "fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train/processed_data"
)
PROLONG = "princeton-prolong/data_before_packing"
TOKENIZER = "princeton-prolong/tokenizer.json"
TOP_FOLDERS = ("olmo-data.org", "datasets", "princeton-prolong")


@dataclass(frozen=True)
class Holding:
    """What the mirror holds of one source: about `tokens` ModernBERT tokens of `kind` text, dealt into `files`."""

    tokens: int
    kind: str
    shape: Shape
    files: tuple[str, ...]


def _numbered(folder: str, prefix: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{_DOLMA}/{folder}/{prefix}{number:04d}.json.gz" for number in numbers)


def demo_scales() -> dict[str, float]:
    """The factor for every target of each phase that this mirror is made for."""
    return {"pretrain": 2e-6, "extension": 4e-6, "decay": 8e-6}


# The demo builds 3.41M tokens for pretrain, 1.00M for extension and 0.61M for decay (`demo_scales`). A holding is what
# its source's largest such target needs, so that each relates to its targets as the upstream does:
# * a source that is taken whole holds 8 to 15% more than its target: filters drop up to 5%, validation takes a document
#   (which weighs most where documents are few and long: arxiv, code_repos), estimates are off by up to 3%;
# * one of which a part is taken holds that much more: cc_news twice, dclm 1.27 times its target;
# * one that is repeated holds less: wikipedia (two passes in pretrain, three in decay), books and textbooks (two in
#   decay), stackexchange_dolmino (three in decay), and stays under four passes after the losses above.
# They are dealt in this order, those of pretrain first and dclm_dolmino last, so that what text repeats does so in
# another phase, and mostly between dclm and dclm_dolmino, which share text upstream too.
HOLDINGS: Mapping[str, Holding] = {
    "dclm": Holding(
        2_130_000,
        "prose",
        Shape(1_600, 1.3),
        tuple(  # shard numbers have holes upstream
            f"{_DCLM}/global-shard_{outer:02d}_of_10/local-shard_{inner}_of_10/shard_{number:08d}_processed.parquet"
            for outer, inner in ((1, 0), (1, 1), (2, 0), (10, 9))
            for number in (0, 3)
        ),
    ),
    "arxiv": Holding(64_000, "math", Shape(14_000, 0.8), _numbered("redpajama-arxiv", "arxiv-", 0, 1, 2)),
    "books": Holding(46_000, "prose", Shape(12_000, 1.1, share=1 / 4), _numbered("books", "books-", 0, 1, 2)),
    "cc_head": Holding(770_000, "prose", Shape(1_600, 1.3), _numbered("cc_en_head", "cc_en_head-", 0, 1, 2, 3)),
    "cc_news": Holding(
        30_000,
        "prose",
        Shape(1_400, 1.0),
        (
            *_numbered("cc_news_head", "cc_news-", 0, 1),
            *_numbered("cc_news_middle", "cc_news-", 0, 1),
            *_numbered("cc_news_tail", "cc_news-", 0),
        ),
    ),
    "open_web_math": Holding(
        28_000,
        "math",
        Shape(2_200, 1.0),
        _numbered("proof_pile_2-open_web_math", "open-web-math-train-", 0, 1),
    ),
    "algebraic_stack": Holding(
        28_500,
        "math_code",
        Shape(whole=True),
        _numbered("proof_pile_2-algebraic_stack", "algebraic-stack-train-", 0, 1),
    ),
    "pes2o": Holding(125_000, "prose", Shape(6_000, 1.2), _numbered("pes2o", "pes2o-", 0, 1, 2)),
    "reddit": Holding(175_000, "prose", Shape(300, 1.6), _numbered("reddit", "reddit-", 0, 1, 2)),
    "stackexchange": Holding(
        43_000, "prose", Shape(900, 1.1), _numbered("redpajama-stackexchange", "stackexchange-", 0, 1)
    ),
    "starcoder": Holding(
        580_000,
        "code",
        Shape(whole=True),
        _numbered("starcoder", "starcoder-", 0, 1, 2, 3),
    ),
    "tulu_flan": Holding(36_500, "prose", Shape(900, 1.2), _numbered("tulu_flan", "tulu_flan-", 0, 1, 2)),
    "wikipedia": Holding(8_000, "prose", Shape(1_200, 1.0), _numbered("wiki", "wiki-", 0, 1)),
    "code_repos": Holding(
        190_000,
        "repositories",
        Shape(longest=100_000, whole=True),
        tuple(f"{PROLONG}/code_repos/python-repositories-{number}" for number in range(4)),
    ),
    "math_dolmino": Holding(
        46_000,
        "math",
        Shape(700, 1.1),
        tuple(
            f"{_DOLMINO}/math/{path}"
            for path in (
                "codesearchnet-owmfilter/python/part_0000.jsonl.gz",
                "dolmino_math_synth/basic_math/basic_math_0000.jsonl",
                "dolmino_math_synth/gsm8k-synth/resample_v1_6x/part_0000.jsonl",
                "dolmino_math_synth/gsm_mind/part_0000.jsonl",
                "gsm8k/v0_main_train/allenai.jsonl.zst",
                "mathcoder2-synthmath/book_math.0000.jsonl",
                "metamath-owmfilter/metamath-0000.json.gz",
                "metamath-owmfilter/metamath-0001.json.zst",
                "tinyGSM-MIND/2students/part.00001.jsonl.gz",
                "tinyGSM-MIND/problem-solving/part.00001.jsonl.gz",
                "tulu_math/personahub_math.jsonl",
            )
        ),
    ),
    "stackexchange_dolmino": Holding(
        11_000,
        "prose",
        Shape(900, 1.0),
        tuple(f"{_DOLMINO}/stackexchange/stackexchange-{number:04d}.json.gz" for number in range(2)),
    ),
    "textbooks": Holding(
        2_300, "prose", Shape(900, 0.6), tuple(f"{PROLONG}/textbooks/textbooks-{number}" for number in range(2))
    ),
    "dclm_dolmino": Holding(
        765_000,
        "prose",
        Shape(1_800, 1.4),
        (
            *(f"{_DOLMINO}/dclm/0000/dclm-{number:04d}.json.zst" for number in range(4)),
            *(f"{_DOLMINO}/dclm/0001/dclm-{number:04d}.json.zst" for number in range(2)),
        ),
    ),
}
