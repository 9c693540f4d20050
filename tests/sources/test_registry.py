"""The registry says what the design's mixture table and the facts say."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import source_kit as kit
from hypothesis import given
from hypothesis import strategies as st

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.recipe import shipped_targets
from ettin_data.sources import globs
from ettin_data.sources.families import dolma, prolong

TABLE = {  # ARCHITECTURE 5.8, billions of tokens: pretrain, extension, decay
    "arxiv": (28.0, 4.1, 3.0), "books": (5.3, 0.8, 10.5), "cc_head": (356.6, 0, 0), "cc_news": (7.3, 0, 0),
    "code_repos": (0, 0, 20.2), "dclm": (837.2, 0, 0), "dclm_dolmino": (0, 175.5, 26.0), "math_dolmino": (0, 10.4, 5.0),
    "open_web_math": (12.7, 0, 0), "algebraic_stack": (12.6, 0, 0), "pes2o": (57.3, 8.3, 0), "reddit": (80.3, 6.2, 0),
    "stackexchange": (19.6, 0, 0), "stackexchange_dolmino": (0, 2.7, 4.0), "starcoder": (263.9, 38.4, 0),
    "textbooks": (0, 0, 0.5), "tulu_flan": (16.6, 2.4, 4.1), "wikipedia": (7.3, 0.5, 3.0),
}  # fmt: skip


def test_the_mixture_table() -> None:
    assert list(sources.REGISTRY) == list(TABLE)
    for key, source in sources.REGISTRY.items():
        wanted = dict(zip(("pretrain", "extension", "decay"), TABLE[key], strict=True))
        assert shipped_targets(key) == {p: round(b * 1e9) for p, b in wanted.items() if b}, key
        assert source.key == key and source.root.endswith("/") and source.licence and source.category
    totals = [sum(shipped_targets(k).get(p, 0) for k in TABLE) for p in ("pretrain", "extension", "decay")]
    assert totals == [1_704_700_000_000, 249_300_000_000, 76_300_000_000]


def test_file_counts_are_those_of_the_upstreams() -> None:
    counts = {key: source.files for key, source in sources.REGISTRY.items()}
    dolma_counts = {
        "arxiv": 100, "books": 3, "cc_head": 275, "cc_news": 9, "open_web_math": 13, "algebraic_stack": 16, "pes2o": 26,
        "reddit": 78, "stackexchange": 26, "starcoder": 49, "tulu_flan": 66, "wikipedia": 2,
    }  # fmt: skip
    assert {key: counts[key] for key in dolma_counts} == dolma_counts
    assert (counts["dclm"], counts["dclm_dolmino"], counts["math_dolmino"]) == (27_938, 1970, 5129)
    assert (counts["stackexchange_dolmino"], counts["code_repos"], counts["textbooks"]) == (16, None, None)


def test_the_official_dolma_list_is_generated() -> None:
    urls = dolma.urls()
    text = "".join(url + "\n" for url in urls).encode()
    assert (len(urls), len(set(urls)), len(text)) == (2419, 2419, 171_893)
    published = "9fa8c2f0eb57149ff7914b35ca2ffb8da221c02786d712bcba5f6c39d294b49e"
    assert hashlib.sha256(text).hexdigest() == published
    own = {dolma.ROOT + path for s in dolma.SOURCES for pattern in s.globs for path in globs.expand(pattern)}
    assert own < set(urls) and not own & {dolma.ROOT + gap for gap in dolma.GAPS}


def test_an_unknown_key_names_near_matches() -> None:
    assert sources.get("dclm").key == "dclm"
    with pytest.raises(SourceError, match=r"no source 'wikpedia'(.|\n)*wikipedia"):
        sources.get("wikpedia")


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("https://olmo-data.org/dolma-v1_7/", "olmo-data.org/dolma-v1_7"),
        ("https://user:secret@host.example:8080/a/", "host.example_8080/a"),
        (
            "hf://datasets/mlfoundations/dclm-baseline-1.0-parquet@817d/",
            "datasets/mlfoundations/dclm-baseline-1.0-parquet",
        ),
        ("hf://datasets/org/name@refs%2Fpr%2F1/sub/", "datasets/org/name/sub"),
        ("s3://princeton-prolong/data_before_packing/code_repos/", "princeton-prolong/data_before_packing/code_repos"),
        ("gs://bucket/", "bucket"),
    ],
)
def test_mirror_path(root: str, path: str) -> None:
    assert sources.mirror_path(root) == path


def test_a_local_root_has_no_mirror_path(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="local folder"):
        sources.mirror_path(str(tmp_path))
    own = sources.own_source("mine", str(tmp_path))
    assert sources.with_root(own, "/elsewhere") is own


def test_no_two_sources_share_a_file_of_the_mirror() -> None:
    places = [(sources.mirror_path(s.root), pattern) for s in sources.REGISTRY.values() for pattern in s.globs]
    assert len(set(places)) == len(places)


def test_the_tokenizer_beside_a_mirror_is_used_unless_the_recipe_names_one(tmp_path: Path) -> None:
    source = sources.get("code_repos")
    assert sources.with_root(source, str(tmp_path)).tokenizer == prolong.TOKENIZER
    kit.write(tmp_path / "princeton-prolong/tokenizer.json", b"{}")
    assert sources.with_root(source, str(tmp_path)).tokenizer == str(tmp_path / "princeton-prolong/tokenizer.json")
    named = replace(source, tokenizer="my/tokenizer.json")
    assert sources.with_root(named, str(tmp_path)).tokenizer == "my/tokenizer.json"


def test_requester_pays_is_asked_for_upstream_and_not_of_a_mirror(tmp_path: Path) -> None:
    source = sources.get("textbooks")
    assert source.storage == {"requester_pays": True}
    assert sources.with_root(source, str(tmp_path)).storage == {}


@given(st.integers(0, 300), st.integers(0, 60), st.integers(1, 5))
def test_a_range_expands_to_what_its_expression_matches(first: int, length: int, width: int) -> None:
    pattern = f"a/b-{{{first:0{width}d}..{first + length:0{width}d}}}.gz"
    names = globs.expand(pattern)
    regex = globs.to_regex(pattern)
    assert len(names) == len(set(names)) == length + 1
    assert all(regex.fullmatch(name) for name in names)
    assert not regex.fullmatch(f"a/b-{first + length + 1:0{width}d}.gz")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "data/**/x-*.json",
            ["data/x-1.json", "data/a/b/x-.json"],
            ["data/x-1.json.gz", "other/x-1.json", "data/ax-1.json"],
        ),
        ("*.gz", ["a.gz"], ["a/b.gz"]),
        ("a.{json,gz}", ["a.json", "a.gz"], ["a.", "axjson"]),
        ("**/{index.json,*.parquet}", ["index.json", "a/b.parquet"], ["xindex.json", "a/b.json"]),
        ("a+b(1).txt", ["a+b(1).txt"], ["aab1.txt"]),
        ("x?.gz", ["x1.gz"], ["x.gz", "x/.gz"]),
    ],
)
def test_globs(pattern: str, yes: list[str], no: list[str]) -> None:
    regex = globs.to_regex(pattern)
    assert all(regex.fullmatch(path) for path in yes)
    assert not any(regex.fullmatch(path) for path in no)


def test_a_range_that_runs_backwards_or_is_huge_is_refused() -> None:
    with pytest.raises(SourceError, match="backwards"):
        globs.expand("{9..1}")
    with pytest.raises(SourceError, match="1,000,000"):
        globs.expand("{0..9999}/{0..9999}")
