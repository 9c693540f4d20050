"""Splits and plans are functions of the listing and the recipe."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data import recipe, sources
from ettin_data.base.errors import BuildError
from ettin_data.build import plan
from ettin_data.sources.base import SourceFile

MB = 1_000_000


def listing(key, size):
    """The upstream's file names, as the globs of the registry give them."""
    from ettin_data.sources import globs

    source = sources.REGISTRY[key]
    return [SourceFile(path, size) for pattern in source.globs for path in globs.expand(pattern.replace("*", "0"))]


def made(loaded, size=400 * MB):
    chosen = {key: sources.REGISTRY[key] for key in loaded.sources}
    return plan.make_plan(loaded, chosen, {key: listing(key, size) for key in chosen})


def test_published_split_names_and_no_collisions():
    loaded = made(recipe.load_recipe("pretrain"))
    names = {key: [split.name for split in source.listed] for key, source in loaded.sources.items()}
    assert sorted(names["arxiv"])[49] == "arxiv_0049"
    assert sorted(names["wikipedia"]) == ["wiki_0000", "wiki_0001"]
    assert "cc_news_head-cc_news_0000" in names["cc_news"] and "cc_news_tail-cc_news_0000" in names["cc_news"]
    assert len(names["cc_news"]) == 9
    for source in names.values():
        assert len(set(source)) == len(source)
        assert all("/" not in name and not name.startswith(".") for name in source)


PATHS = st.lists(
    st.tuples(st.text("ab-_.", min_size=1, max_size=4), st.sampled_from([".json.gz", ".jsonl", "", ".parquet"])),
    min_size=1, max_size=30, unique=True,
)  # fmt: skip


@given(PATHS, st.integers(1, 50))
def test_every_file_is_in_one_split_and_names_are_unique(paths, split_bytes):
    files = [SourceFile(f"d/x{stem}{end}", 7) for stem, end in paths]
    source = sources.own_source("mine", "/nowhere/")
    splits = plan.make_splits(source, files, split_bytes)
    assert sorted(file.path for split in splits for file in split.files) == sorted(file.path for file in files)
    assert len({split.name for split in splits}) == len(splits)
    assert all(split.bytes <= max(split_bytes, 7) for split in splits)
    assert plan.make_splits(source, list(reversed(files)), split_bytes) == splits


def test_a_part_of_a_source_reads_a_part_of_its_files():
    """Extension takes 8.3 of 57.3B tokens of peS2o: it need not read all of it."""
    pes2o = made(recipe.load_recipe("extension"), size=3_000 * MB).sources["pes2o"]
    assert 2 <= len(pes2o.splits) < len(pes2o.listed) == 26
    assert pes2o.expected_tokens >= 8.3e9 * 1.2
    other = recipe.load_recipe("extension", overrides=["seed=43"])
    assert made(other, size=3_000 * MB).sources["pes2o"].splits != pes2o.splits


def test_more_tokens_extend_the_choice_of_files():
    few, many = (
        made(recipe.load_recipe("extension", overrides=[f"sources.pes2o.tokens={t}"]), 3_000 * MB)
        .sources["pes2o"]
        .splits
        for t in ("8B", "20B")
    )
    assert many[: len(few)] == few


def test_plan_json_names_targets_files_and_splits():
    described = json.loads(made(recipe.load_recipe("pretrain", scale=2)).record().model_dump_json())
    assert described["sources"]["arxiv"]["target_tokens"] == 56_000_000_000
    assert described["sources"]["arxiv"]["files"] == described["sources"]["arxiv"]["splits"] == 100
    assert set(described["split_files"]["arxiv"]) == {f"arxiv_{i:04}" for i in range(100)}


def test_a_source_without_files_is_an_error():
    loaded = recipe.load_recipe("pretrain")
    chosen = {key: sources.REGISTRY[key] for key in loaded.sources}
    with pytest.raises(BuildError, match="'algebraic_stack' has no files"):
        plan.make_plan(loaded, chosen, {key: [] for key in chosen})
