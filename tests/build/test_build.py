"""The whole way, on a small mirror with the shipped recipes: what is built is right, and however built the same."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from progress_log import ProgressLog

from ettin_data import recipe
from ettin_data.base import files as disk
from ettin_data.base.errors import BuildError, RecipeError, SourceError
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions, resolve, states
from ettin_data.demo import demo
from ettin_data.executor import ExecutorOptions
from ettin_data.order.index import OrderIndex
from ettin_data.storage import ledger
from ettin_data.storage import split as marker
from ettin_data.storage.mds import MdsReader

MEGABYTES = 2.0


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mirror")
    demo.mirror(root, MEGABYTES)
    return demo.mirror_folder(root)


@pytest.fixture(scope="module")
def recipes():
    return {loaded.phase: loaded for loaded in demo.recipes(MEGABYTES)}


def options(out: Path, mirror: Path, **executor) -> BuildOptions:
    return BuildOptions(out, str(mirror), ExecutorOptions(**{"workers": 2, "time_limit_s": 300, **executor}))


@pytest.fixture(scope="module")
def built(tmp_path_factory, mirror, recipes) -> Path:
    out = tmp_path_factory.mktemp("run")
    for loaded in recipes.values():
        run.build_phase(loaded, options(out, mirror))
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same_data(one: Path, other: Path) -> None:
    for part in ("train", "validation", "order"):
        ours, theirs = files(one / part), files(other / part)
        assert list(ours) == list(theirs)
        assert [name for name in ours if ours[name] != theirs[name]] == []
    roots = [json.loads((folder / "run.json").read_text())["root"] for folder in (one, other)]
    assert roots[0] == roots[1]


PHASES = pytest.mark.parametrize("phase", recipe.PHASES)


@PHASES
def test_layout_and_targets(built, recipes, phase):
    folder = built / phase
    assert {"plan.json", "run.json", "pools", "train", "validation", "order", "rejects"} <= {
        path.name for path in folder.iterdir()
    }
    plan, done = (json.loads((folder / name).read_text()) for name in ("plan.json", "run.json"))
    reader = MdsReader(folder / "train")
    tokens: dict[str, int] = {}
    largest: dict[str, int] = {}
    for number, info in enumerate(reader.infos):
        source = info.basename.split("/")[0].split("-dup")[0]
        lengths = np.diff(reader.shard(number).offsets.astype(np.int64))
        sizes = [len(reader.shard(number).sample(row)[1]) for row in range(info.samples)]
        assert (lengths > 2 * np.array(sizes)).all()
        tokens[source] = tokens.get(source, 0) + sum(sizes)
        largest[source] = max(largest.get(source, 0), *sizes)
    assert set(tokens) == set(recipes[phase].sources)
    for key, source in recipes[phase].sources.items():
        for description in (plan, done):
            assert description["sources"][key]["target_tokens"] == source.tokens
            assert description["sources"][key]["files"] >= description["sources"][key]["splits"] > 0
        assert done["sources"][key]["tokens"] == tokens[key]
        assert abs(tokens[key] - source.tokens) <= max(0.005 * source.tokens, largest[key])
        suffix = recipes[phase].layout_name()
        assert all(path.name.endswith(suffix) for path in (folder / "pools" / key).iterdir())


@PHASES
def test_every_sample_is_framed_and_within_the_length(built, recipes, phase, tokenizer):
    for part in ("train", "validation"):
        reader = MdsReader(built / phase / part)
        assert len(reader) > 0
        for sample in reader:
            ids = sample["input_ids"]
            assert ids.dtype == np.uint16 and 3 <= len(ids) <= recipes[phase].length
            assert ids[0] == tokenizer.vocabulary.open and ids[-1] == tokenizer.vocabulary.close
            inside = ids[1:-1]
            assert inside.max() < tokenizer.vocabulary.size
            assert not np.isin(
                inside, [tokenizer.vocabulary.pad, tokenizer.vocabulary.open, tokenizer.vocabulary.close]
            ).any()


@PHASES
def test_validation_shares_no_document_with_train(built, recipes, phase):
    done = json.loads((built / phase / "run.json").read_text())
    for key in recipes[phase].sources:
        documents = {}
        for part in ("train", "validation"):
            folders = [path.parent for path in (built / phase / part).glob(f"{key}*/*/split.json")]
            folders = [folder for folder in folders if folder.parent.name.removesuffix("-dup") == key]
            documents[part] = set()
            for folder in folders:
                inputs, table = marker.read_marker(folder).inputs, ledger.read_ledger(folder).documents
                pairs = zip(table["file"].tolist(), table["position"].tolist(), strict=True)
                documents[part] |= {(inputs[file]["path"], position) for file, position in pairs}
        assert documents["validation"] and documents["validation"].isdisjoint(documents["train"])
        assert done["sources"][key]["validation_documents"] == len(documents["validation"])


@PHASES
def test_conservation_and_ledger(built, phase):
    for path in sorted((built / phase / "pools").glob("*/*/split.json")):
        split = marker.read_marker(path.parent)
        tally = split.tally
        assert tally["records"] == tally["documents"] + sum(tally["rejected"].values()) + sum(
            tally["filtered"].values()
        )
        assert tally["tokens_in"] == tally["text_tokens"] + sum(tally["skipped"].values())
        assert tally["tokens"] == tally["text_tokens"] + 2 * tally["samples"]
        table = ledger.read_ledger(path.parent)
        reader = MdsReader(path.parent)
        assert len(reader) == len(table.samples["document"]) == split.samples
        assert table.documents["tokens"].sum() == tally["tokens_in"]
        for row in range(len(reader)):
            assert len(reader.tokens(row)) == table.samples["tokens"][row] == table.samples["length"][row] + 2
        assert marker.samples_root(table) == split.root


def test_text_survives_the_way(built, mirror, tokenizer):
    """Samples decode to the text of the upstream record that the ledger names."""
    import gzip

    folder = next((built / "pretrain/pools/wikipedia").iterdir())
    split, table, reader = marker.read_marker(folder), ledger.read_ledger(folder), MdsReader(folder)
    path = mirror / "olmo-data.org/dolma-v1_7" / split.inputs[0]["path"]
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    for row in range(len(reader)):
        document = table.samples["document"][row]
        record = records[table.documents["position"][document]]
        ids, _ = tokenizer.encode_batch([record["text"]])
        start, length = int(table.samples["start"][row]), int(table.samples["length"][row])
        np.testing.assert_array_equal(reader.tokens(row)[1:-1], ids[start : start + length])
        assert reader.id(row) == record["id"]


def test_streaming_and_the_order_index_read_it(streaming, built):
    folder = built / "extension"
    reader = MdsReader(folder / "train")
    dataset = streaming.StreamingDataset(
        local=str(folder / "train"), shuffle=False, batch_size=1, validate_hash="xxh3_64"
    )
    assert dataset.num_samples == len(reader)
    for position in (0, len(reader) // 2, len(reader) - 1):
        np.testing.assert_array_equal(dataset[position]["input_ids"], reader.tokens(position))
    index = OrderIndex.open(folder / "order")
    positions = np.concatenate([index.step(k) for k in range(index.steps)])
    expected = np.random.Generator(np.random.PCG64DXSM(21)).permutation(len(reader))
    np.testing.assert_array_equal(positions, expected[: len(positions)])


def test_one_worker_gives_the_same_bytes(built, mirror, recipes, tmp_path):
    run.build_phase(recipes["decay"], options(tmp_path, mirror, workers=1))
    same_data(built / "decay", tmp_path / "decay")


def test_ray_gives_the_same_bytes(built, mirror, recipes, tmp_path):
    run.build_phase(recipes["decay"], options(tmp_path, mirror, kind="ray"))
    same_data(built / "decay", tmp_path / "decay")


def test_again_does_nothing(built, mirror, recipes):
    folder = built / "decay"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    progress = ProgressLog()
    run.build_phase(recipes["decay"], dataclasses.replace(options(built, mirror), progress=progress))
    assert progress.stages == []
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    changed = {path for path in before | after if before.get(path) != after.get(path) and path.is_file()}
    assert {path.name for path in changed} <= {
        "index.json", "plan.json", "run.json", "manifest.json", "README.md", ".lock",
    }  # fmt: skip


def test_a_change_rebuilds_what_depends_on_it(built, mirror, recipes, tmp_path):
    """Another target touches no pool; another filter rebuilds one pool; the rest stays as it is."""
    shutil.copytree(built / "decay", tmp_path / "decay")
    progress = ProgressLog()
    hooked = BuildOptions(tmp_path, str(mirror), ExecutorOptions(workers=2), progress=progress)
    changed = recipes["decay"].model_dump()
    changed["sources"]["arxiv"]["tokens"] //= 2
    run.build_phase(recipe.Recipe.model_validate(changed), hooked)
    assert "tokenize" not in dict(progress.jobs())
    progress.stages.clear()
    changed["sources"]["arxiv"]["filters"] = [{"length": {"min_chars": 300}}]
    changed = recipe.Recipe.model_validate(changed)
    there = states(resolve(changed, hooked))
    assert "to build: made from other inputs or options" in there["arxiv"]
    assert all("to build" not in state for key, state in there.items() if key != "arxiv")
    run.build_phase(changed, hooked)
    arxiv = json.loads((tmp_path / "decay/plan.json").read_text())["sources"]["arxiv"]["splits"]
    assert dict(progress.jobs())["tokenize"] == arxiv
    shutil.rmtree(tmp_path / "decay")
    run.build_phase(changed, hooked)


@pytest.mark.parametrize("strategy", ["best_fit", "concat"])
def test_other_packing(mirror, tmp_path, strategy, tokenizer):
    scale = demo.demo_scales()["pretrain"] * MEGABYTES / demo.DEFAULT_MEGABYTES
    loaded = recipe.load_recipe(
        "pretrain",
        overrides=[*demo.OVERRIDES, f"pack.strategy={strategy}"],
        scale=scale,
        drop_sources=["dclm", "cc_head", "starcoder", "pes2o", "reddit", "open_web_math", "books", "algebraic_stack"],
    )
    run.build_phase(loaded, options(tmp_path, mirror))
    reader = MdsReader(tmp_path / "pretrain/train")
    assert list(reader.infos[0].columns) == ["cu_seqlens", "id", "input_ids"]
    for number, info in enumerate(reader.infos):
        for row in range(info.samples):
            _, ids = reader.shard(number).sample(row)
            bounds = reader.shard(number).column(row, "cu_seqlens")
            assert bounds[-1] == len(ids) <= 1024
            assert (ids[bounds[1:] - 1] == tokenizer.vocabulary.close).all() and ids[0] == tokenizer.vocabulary.open


def test_own_source(tmp_path):
    lines = [json.dumps({"text": f"My text number {i}. " * (1 + i % 50), "id": f"mine-{i}"}) for i in range(300)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    loaded = recipe.load_recipe(
        "pretrain",
        overrides=["order.batch=4"],
        add_sources=[f"mine={tmp_path}/mine.jsonl:20k"],
        drop_sources=list(recipe.load_recipe("pretrain").sources),
    )
    done = run.build_phase(loaded, BuildOptions(tmp_path / "out", None, ExecutorOptions(workers=1)))
    assert abs(done.sources["mine"].tokens - 20_000) < 500


def test_an_input_with_other_content_is_refused_or_accepted(tmp_path):
    """One byte of an input changes, and not its size: the build says so; with `relist` it makes that split again."""
    lines = [json.dumps({"text": f"My text number {i}. " * (1 + i % 50), "id": f"mine-{i}"}) for i in range(300)]
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines).replace("mine-", name))
    loaded = recipe.load_recipe(
        "pretrain",
        overrides=["order.batch=4", "split_bytes=1"],
        add_sources=[f"mine={tmp_path}/*.jsonl:60k"],
        drop_sources=list(recipe.load_recipe("pretrain").sources),
    )
    opened = BuildOptions(tmp_path / "out", None, ExecutorOptions(workers=1))
    before = run.build_phase(loaded, opened)
    entries = {
        split.parent: marker.read_marker(split.parent).inputs[0]
        for split in tmp_path.glob("out/*/pools/*/*/split.json")
    }
    assert len(entries) == 2
    changed = tmp_path / "two.jsonl"
    assert disk.digest(changed)["xxh3_64"] in {entry["xxh3_64"] for entry in entries.values()}
    os.utime(changed)  # touched and nothing else
    assert run.build_phase(loaded, opened).root == before.root
    changed.write_text(changed.read_text().replace("My text number 7.", "My text number 8."))
    with pytest.raises(SourceError, match="changed since this run was planned") as caught:
        run.build_phase(loaded, opened)
    assert "two.jsonl: xxh3" in str(caught.value) and "one.jsonl" not in str(caught.value)
    progress = ProgressLog()
    accepting = dataclasses.replace(opened, relist=True, progress=progress)
    assert run.build_phase(loaded, accepting).root != before.root
    assert ("tokenize", 1) in progress.jobs()
    assert run.build_phase(loaded, opened).root != before.root


def test_too_many_rejects_stop_the_build(tmp_path):
    lines = [json.dumps({"text": "good text", "id": str(i)}) for i in range(90)] + ["{broken"] * 10
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    drop = list(recipe.load_recipe("pretrain").sources)
    add = [f"mine={tmp_path}/mine.jsonl:200"]
    build_options = BuildOptions(tmp_path / "out", None, ExecutorOptions(workers=1))
    with pytest.raises(BuildError, match=r"(?s)10 of 100 records of source 'mine'.*1\.00%"):
        run.build_phase(recipe.load_recipe("pretrain", add_sources=add, drop_sources=drop), build_options)
    log = (tmp_path / "out/pretrain/rejects/mine").iterdir()
    rows = [json.loads(line) for line in next(log).read_text().splitlines()]
    assert [row["position"] for row in rows] == list(range(90, 100))
    assert {row["file"] for row in rows} == {"mine.jsonl"}
    tolerant = recipe.load_recipe(
        "pretrain", add_sources=add, drop_sources=drop, overrides=["bad_input.max_rejects=0.2"]
    )
    assert run.build_phase(tolerant, build_options).sources["mine"].rejected


def test_an_unknown_filter_is_refused_before_any_work(tmp_path, mirror):
    loaded = recipe.load_recipe("decay", overrides=["sources.arxiv.filters=[gopher_qualty]"])
    with pytest.raises(RecipeError, match="gopher_qualty"):
        resolve(loaded, options(tmp_path, mirror))
