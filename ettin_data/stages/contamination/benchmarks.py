"""Benchmarks by name: where on the hub their data sets are, and which columns hold texts.

GSM8K, MMLU and GLUE lie as parquet in their own data sets. The data sets of MTEB are of several forms, so each is read
from the hub's own conversion to parquet, `refs/convert/parquet`, in folders `<config>/<split>`. Of MTEB these are
English ones: sentences of similarity, texts of classification, and queries of retrieval; not the passages among which
these are looked for, most of which are parts of Wikipedia and of forums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Benchmark = Literal["gsm8k", "mmlu", "glue", "mteb"]


class HubFiles(NamedTuple):
    """Files of a data set on the hub, and the columns of their texts (as in `TextsChoice`)."""

    address: str
    question: str
    answer: str | None = None
    passage: str | None = None


def _glue(config: str, first: str, second: str | None = None) -> HubFiles:
    return HubFiles(f"hf://datasets/nyu-mll/glue/{config}/{{validation,test}}*.parquet", first, None, second)


def _mteb(name: str, first: str, second: str | None = None, at: str = "default/test") -> HubFiles:
    return HubFiles(f"hf://datasets/mteb/{name}@refs/convert/parquet/{at}/*.parquet", first, None, second)


_SIMILARITY = (
    "biosses-sts", "sickr-sts", "sts12-sts", "sts13-sts", "sts14-sts", "sts15-sts", "sts16-sts", "stsbenchmark-sts",
)  # fmt: skip
_CLASSIFICATION = ("banking77", "imdb", "toxic_conversations_50k", "tweet_sentiment_extraction")
_RETRIEVAL = ("arguana", "fiqa", "scidocs", "scifact", "nfcorpus", "trec-covid")

BENCHMARKS: Mapping[Benchmark, tuple[HubFiles, ...]] = {
    "gsm8k": (HubFiles("hf://datasets/openai/gsm8k/main/test-*.parquet", "question", "answer"),),
    "mmlu": (HubFiles("hf://datasets/cais/mmlu/all/{test,validation,dev}-*.parquet", "question", "choices"),),
    "glue": (
        _glue("cola", "sentence"),
        _glue("sst2", "sentence"),
        _glue("mrpc", "sentence1", "sentence2"),
        _glue("qqp", "question1", "question2"),
        _glue("stsb", "sentence1", "sentence2"),
        _glue("mnli", "premise", "hypothesis"),
        _glue("qnli", "question", "sentence"),
        _glue("rte", "sentence1", "sentence2"),
        _glue("wnli", "sentence1", "sentence2"),
        HubFiles("hf://datasets/nyu-mll/glue/ax/test-*.parquet", "premise", None, "hypothesis"),
    ),
    "mteb": (
        *(_mteb(name, "sentence1", "sentence2") for name in _SIMILARITY),
        *(_mteb(name, "text") for name in _CLASSIFICATION),
        *(_mteb(name, "text", at="queries/queries") for name in _RETRIEVAL),
    ),
}
