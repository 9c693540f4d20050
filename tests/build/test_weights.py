"""Copies as a weight: documents are taken as often as their equals say, targets are met, and verify proves both."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ettin_data
from ettin_data.base.errors import RecipeError
from ettin_data.base.progress import SILENT
from ettin_data.build.mix import SampleTable, mix_source
from ettin_data.dedup.options import WEIGHTS
from ettin_data.dedup.tables import TWIN_ROW, TWIN_SPLIT
from ettin_data.dedup.weights import cluster_sizes, layers, threshold, weights
from ettin_data.recipe import Recipe
from ettin_data.storage import digests, records
from ettin_data.storage.attributes import Attribute, read_attribute
from ettin_data.storage.phase import Phase
from ettin_data.tokenizer.encoder import TokenizerFile
from ettin_data.verify.copies import check_copies

FINEWEB2 = WEIGHTS["fineweb2"]
RECIPE = """
phase: pretrain
length: 64
split_bytes: 12KB
filters: []
validation: 0.02
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 4}
dedup: {near: null, priority: [mine], weight: WEIGHT}
sources:
  mine: {root: mine, passes: 1}
  other: {root: other, tokens: 4000}
"""


def text(seed: int) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(2000)}" for _ in range(60)) + "."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> Path:
    """Of `mine` texts 0 to 29 stand once, 30 to 34 twice, 35 six times; `other` has 30 and 36 to 60 once more each."""
    mine = [*range(30), *(2 * list(range(30, 35))), *(6 * [35])]
    for name, seeds in (("mine", mine), ("other", [30, *range(36, 61)])):
        (tmp_path / name).mkdir()
        for part in range(2):
            rows = [json.dumps({"id": str(seed), "text": text(seed)}) for seed in seeds[part::2]]
            (tmp_path / name / f"{part}.jsonl").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(weight: str = "fineweb2", *changes: str) -> Recipe:
    Path("recipe.yaml").write_text(RECIPE.replace("WEIGHT", weight))
    return ettin_data.load_recipe("recipe.yaml").changed(*changes)


def taken(part: Path) -> Counter[tuple[str, int]]:
    """How often each document is in a part: (file, position), folder by folder."""
    found = Counter[tuple[str, int]]()
    for ledger in part.rglob("documents.parquet"):
        inputs = json.loads((ledger.parent / "split.json").read_text())["inputs"]
        rows = pq.read_table(ledger, columns=["file", "position"]).to_pylist()
        found.update({(f"{inputs[row['file']]['path']}", row["position"]) for row in rows})
    return found


def test_a_document_is_taken_as_often_as_its_equals_say(folder: Path) -> None:
    run = ettin_data.build(recipe(), "run")
    phase = folder / "run/pretrain"
    train = Counter[tuple[str, int]]()
    for copy in sorted((phase / "train").glob("mine*")):
        train += taken(copy)
    held = taken(phase / "validation/mine")
    # 30 of the 36 stand once, and one of these is held out; text 30 three times, with `other`; four twice; 35 six times
    often = Counter(train.values())
    assert often + Counter({1: len(held)}) == {1: 30, 2: 4, 3: 1, 5: 1}
    assert max(held.values()) == 1 and not set(held) & set(train)
    assert run.sources["mine"].passes == 1 and run.sources["mine"].documents == 36 - len(held)
    assert abs(run.sources["other"].tokens - 4000) <= 64
    assert sorted(path.name for path in (phase / "train").glob("mine*")) == [
        "mine", "mine-dup", "mine-dup_2", "mine-dup_3", "mine-dup_4",
    ]  # fmt: skip
    assert all(report.sound for report in ettin_data.verify("run", full=True))
    assert ettin_data.build(recipe(), "run").root == run.root
    plain = ettin_data.build(recipe("null"), "run")
    assert plain.root != run.root and "weight" not in plain.recipe["dedup"]
    assert [path.name for path in (phase / "train").glob("mine*")] == ["mine"] and ettin_data.verify("run")[0].sound


@pytest.mark.parametrize("passes", ["0.4", "1.7", "3"])
def test_less_and_more_than_a_pass_keep_the_proportions(folder: Path, passes: str) -> None:
    changes = (f"sources.mine.passes={passes}", "validation=0")
    run = ettin_data.build(recipe("{2: 2, 5: 4}", *changes), "run")
    whole = int(float(passes))
    train = Counter[tuple[str, int]]()
    for copy in sorted((folder / "run/pretrain/train").glob("mine*")):
        train += taken(copy)
    weight = {seed: 4 if seed == 35 else 2 if seed >= 30 else 1 for seed in range(36)}
    found = Counter[int]()
    for (path, position), often in train.items():
        seeds = json.loads((folder / "mine" / path).read_text().splitlines()[position])["id"]
        found[int(seeds)] += often
    odd = [seed for seed in found if found[seed] % weight[seed] and found[seed] // weight[seed] in (whole, whole + 1)]
    assert len(odd) <= 1, "at most the document at the cut is taken less often than its weight"
    assert all(whole <= found[seed] / weight[seed] <= whole + 1 for seed in range(36))
    assert abs(run.sources["mine"].tokens - run.sources["mine"].target_tokens) <= 64
    assert all(report.sound for report in ettin_data.verify("run", full=True))


def test_verify_finds_a_changed_weight(folder: Path) -> None:
    ettin_data.build(recipe(), "run")
    phase = Phase(folder / "run/pretrain", "pretrain")
    path = min((phase.folder / "attributes/weight_1/mine").glob("*.parquet"))
    table = read_attribute(path)
    path.write_bytes(Attribute(table.reasons, 1 - table.codes, table.columns).to_bytes())
    assert not ettin_data.verify("run")[0].sound
    found = list(check_copies(phase, records.read_run(phase), digests.read_digests(phase.digests_json), None, SILENT))
    assert [(each.where, each.reason) for each in found] == [
        (path.relative_to(phase.folder).as_posix(), "wrong_copies")
    ]


@pytest.mark.parametrize(
    ("weight", "changes", "told"),
    [
        ("finweb2", (), "fineweb2"),
        ("{1: 2}", (), "weight"),
        ("{2: 65}", (), "weight"),
        ("{}", (), "weight"),
        ("fineweb2", ("pack=best_fit",), "several documents"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(folder: Path, weight: str, changes: tuple[str], told: str) -> None:
    with pytest.raises(RecipeError) as error:
        ettin_data.build(recipe(weight, *changes), "run")
    assert told in str(error.value)


def test_the_published_weights() -> None:
    sizes = np.array([1, 2, 3, 4, 5, 99, 100, 999, 1000, 10**6])
    assert weights(sizes, FINEWEB2).tolist() == [1, 2, 3, 3, 5, 5, 8, 8, 1, 1]
    assert layers(FINEWEB2) == 8 and layers(None) == 1 and layers({2: 1}) == 1
    assert [threshold(FINEWEB2, layer) for layer in range(8)] == [0, 1, 2, 3, 3, 5, 5, 5]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 4), st.data())
@settings(max_examples=40, deadline=None)
def test_equals_are_counted_along_a_chain(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], splits: int, data: st.DataObject
) -> None:
    """Each document but the first of a cluster names any earlier one of it, which may be left out itself."""
    clusters = [number for number, size in enumerate(sizes) for _ in range(size)]
    order = data.draw(st.permutations(range(len(clusters))))
    first: dict[int, list[int]] = {}
    bounds = np.linspace(0, len(clusters), splits + 1).astype(int)
    codes, twins = np.zeros(len(clusters), np.uint8), np.zeros(len(clusters), np.int64)
    rng = random.Random(1)
    for document in order:
        earlier = first.setdefault(clusters[document], [])
        if earlier:
            codes[document], twins[document] = 1, rng.choice(earlier)
        earlier.append(document)

    def table(number: int) -> Attribute:
        mine = slice(bounds[number], bounds[number + 1])
        split = np.searchsorted(bounds, twins[mine], side="right") - 1
        columns = {TWIN_SPLIT: split.astype(np.int32), TWIN_ROW: twins[mine] - bounds[split]}
        return Attribute(("same_text",), codes[mine], columns)

    found = cluster_sizes(table, np.diff(bounds).tolist(), tmp_path_factory.mktemp("sizes") / "sizes")
    assert [int(found[each[0]]) for each in first.values()] == [sizes[cluster] for cluster in first]
    assert int(found.sum()) == len(clusters)


@given(
    st.lists(st.lists(st.integers(1, 9), max_size=40), min_size=1, max_size=5),
    st.integers(1, 4000),
    st.integers(1, 5),
    st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_layers_meet_the_target_to_one_sample(sizes: list[list[int]], target: int, heaviest: int, seed: int) -> None:
    tables, rng = [], np.random.default_rng(seed)
    for number, tokens in enumerate(sizes):
        keys = rng.integers(0, 2**63, len(tokens)).astype(np.uint64)
        tables.append(SampleTable(keys, np.arange(len(tokens)), np.array(tokens, np.int64)))
        tables[number].tokens.setflags(write=False)
    weight = [rng.integers(1, heaviest + 1, len(tokens)) for tokens in sizes]

    def layer_of(number: int, layer: int) -> SampleTable:
        table = tables[number]
        return SampleTable(table.keys, table.first, np.where(weight[number] > layer, table.tokens, 0))

    if not any(sizes):
        return
    mix = mix_source(
        "s", target, [f"{n}" for n in range(len(sizes))], [sum(each) for each in sizes], lambda n: tables[n],
        seed=seed, validation=0, max_epochs=1e9, layers=heaviest, load_layer=layer_of,
    )  # fmt: skip
    times = [np.zeros(len(tokens), np.int64) for tokens in sizes]
    for piece in mix.pieces:
        table = layer_of(piece.split, piece.layer)
        rows = np.ones(len(table.first), bool)
        if piece.cut is not None:
            rows = piece.cut.rows(table, piece.layer * len(sizes) + piece.split)
        times[piece.split] += rows & (table.tokens > 0)
    total = sum(int((t * tables[n].tokens).sum()) for n, t in enumerate(times))
    assert total == mix.train_tokens and abs(total - target) <= 9
    passes = np.concatenate([t / w for t, w in zip(times, weight, strict=True)])
    assert passes.max() - passes.min() <= 1 and np.count_nonzero(passes % 1) <= 1
