"""A phase as data sets of torch and of `datasets`: in the order of the index, whatever reads it."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import SmallRun
from typer.testing import CliRunner

import ettin_data
from ettin_data.base.errors import EttinError, OrderError
from ettin_data.cli.main import app
from ettin_data.order.index import OrderIndex
from ettin_data.storage.mds import MdsReader
from ettin_data.tokenizer.encoder import TokenizerFile

torch = pytest.importorskip("torch")
from ettin_data.load.collate import Packed, Padded  # noqa: E402
from ettin_data.load.dataset import OrderedDataset, OrderedStream  # noqa: E402
from ettin_data.load.loader import SampleLoader  # noqa: E402

RECIPE = """
phase: pretrain
length: 64
filters: []
pack: STRATEGY
order: {batch: 4}
sources:
  mine: {root: mine.jsonl, tokens: 900}
"""


@pytest.fixture(scope="module")
def phase(small_run: SmallRun) -> Path:
    """Ten steps of 16 samples; one split has two documents to a sample and says where they begin, the others do not."""
    return small_run.folder / "pretrain"


@pytest.fixture(scope="module")
def ordered(phase: Path) -> OrderedDataset:
    return ettin_data.torch_dataset(phase)


@pytest.fixture(params=["best_fit", "concat"])
def packed(request: pytest.FixtureRequest, tmp_path: Path, tokenizer_file: TokenizerFile, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"id": f"d{n}", "text": f"Document {n}. " + "It rains. " * (n % 30)}) for n in range(99)]
    Path("mine.jsonl").write_text("\n".join(lines) + "\n")
    Path("recipe.yaml").write_text(RECIPE.replace("STRATEGY", request.param))
    ettin_data.build(ettin_data.load_recipe("recipe.yaml"), "run")
    return tmp_path / "run/pretrain"


def positions(batches) -> list[int]:
    return [position for batch in batches for position in batch["sample"].tolist()]


def reading_order(phase: Path) -> list[int]:
    order = OrderIndex.open(phase / "order")
    return [position for step in range(order.steps) for position in order.step(step).tolist()]


# ---------------------------------------------------------------------------------------------------------------------
# map style


def test_a_place_of_the_data_set_is_a_place_of_the_order(phase: Path, ordered: OrderedDataset) -> None:
    reader, expected = MdsReader(phase / "train"), reading_order(phase)
    assert len(ordered) == len(expected) < len(reader)  # the tail that fills no step is not read
    for place in range(0, len(ordered), 7):
        item = ordered[place]
        assert item["sample"] == expected[place]
        assert item["input_ids"].dtype == torch.int64
        assert item["input_ids"].tolist() == reader.tokens(expected[place]).tolist()
    for outside in (-1, len(ordered)):
        with pytest.raises(IndexError):
            ordered[outside]


def test_torchs_own_loader_reads_the_steps(phase: Path, ordered: OrderedDataset) -> None:
    order = ordered.order
    loader = torch.utils.data.DataLoader(ordered, order.batch, collate_fn=Packed(), num_workers=2)
    for step, batch in enumerate(loader):
        assert batch["sample"].tolist() == order.step(step).tolist()
    assert step + 1 == order.steps


def test_torchs_distributed_sampler_deals_as_the_law_does(ordered: OrderedDataset) -> None:
    from torch.utils.data.distributed import DistributedSampler

    sampler = DistributedSampler(ordered, num_replicas=4, rank=1, shuffle=False, drop_last=True)
    ours = OrderedStream(ordered, rank=1, world=4)
    assert [ordered[place]["sample"] for place in sampler] == [item["sample"] for item in ours]


def test_the_form_is_that_of_the_loader_and_documents_stay_apart(packed: Path) -> None:
    stored, seen = ettin_data.torch_dataset(packed), ettin_data.torch_dataset(packed, form="encoder")
    words = stored.form.loader.vocabulary
    assert sum(len(stored[place]["cu_seqlens"]) > 2 for place in range(len(stored))) > 3
    for place in range(len(stored)):
        ids, borders = stored[place]["input_ids"], stored[place]["cu_seqlens"]
        assert borders.dtype == torch.int32 and borders[0] == 0 and borders[-1] == len(ids)
        assert (torch.diff(borders) > 0).all()
        item = seen[place]
        assert item["input_ids"][0] == words.open and item["input_ids"][-1] == words.close
        assert len(item["input_ids"]) <= 64 and item["cu_seqlens"][-1] == len(item["input_ids"])
        moved = int(ids[0] != words.open)  # `concat` begins in the middle of a document: a token is put in front
        kept = min(len(borders), len(item["cu_seqlens"]))
        assert (item["cu_seqlens"][1 : kept - 1] == borders[1 : kept - 1] + moved).all()


def test_it_travels_to_a_worker_closed(ordered: OrderedDataset) -> None:
    ordered[0]
    copy = pickle.loads(pickle.dumps(ordered))
    assert copy[3]["input_ids"].tolist() == ordered[3]["input_ids"].tolist()


# ---------------------------------------------------------------------------------------------------------------------
# collate


lengths_of = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=6)


def items_of(documents: list[list[int]]) -> list[dict]:
    made = []
    for number, lengths in enumerate(documents):
        item = {"input_ids": torch.arange(sum(lengths)) + 100 * number, "sample": number}
        if len(lengths) > 1:
            item["cu_seqlens"] = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        made.append(item)
    return made


@given(lengths_of)
def test_packed_rows_can_be_taken_apart(documents: list[list[int]]) -> None:
    items = items_of(documents)
    batch = Packed()(items)
    flat = [length for lengths in documents for length in lengths]
    assert torch.diff(batch["cu_seqlens"]).tolist() == flat and batch["max_seqlen"] == max(flat)
    assert batch["input_ids"].tolist() == [token for item in items for token in item["input_ids"].tolist()]
    assert batch["position_ids"].tolist() == [place for length in flat for place in range(length)]
    assert batch["sample"].tolist() == list(range(len(items)))


@given(lengths_of, st.sampled_from([1, 8]))
def test_padded_rows_can_be_taken_apart(documents: list[list[int]], multiple: int) -> None:
    items = items_of(documents)
    batch = Padded(-7, multiple)(items)
    assert batch["input_ids"].shape[1] % multiple == 0
    for row, item in enumerate(items):
        kept = batch["attention_mask"][row].bool()
        assert batch["input_ids"][row][kept].tolist() == item["input_ids"].tolist()
        assert (batch["input_ids"][row][~kept] == -7).all()
    assert batch["input_ids"].shape[1] < max(map(sum, documents)) + multiple


# ---------------------------------------------------------------------------------------------------------------------
# loader, ranks, state


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_workers_change_nothing(phase: Path, workers: int, layout: str) -> None:
    loader = ettin_data.torch_loader(phase, 5, layout=layout, workers=workers)
    batches = list(loader)
    assert positions(batches) == reading_order(phase) and len(batches) == len(loader)
    reader, first = MdsReader(phase / "train"), batches[0]
    ids = first["input_ids"][first["attention_mask"].bool()] if layout == "padded" else first["input_ids"]
    assert ids.tolist() == [t for position in first["sample"].tolist() for t in reader.tokens(position).tolist()]


@given(
    world=st.integers(1, 5),
    batch_size=st.integers(1, 9),
    stop=st.integers(0, 12),
    world_after=st.integers(1, 5),
    batch_size_after=st.integers(1, 9),
)
def test_a_state_fits_any_number_of_ranks(ordered, world, batch_size, stop, world_after, batch_size_after) -> None:
    """What was read before and after, by all ranks, is the order without what the ranks cannot share evenly."""

    def loader(rank: int, ranks: int, size: int) -> SampleLoader:
        return SampleLoader(few, size, Padded(0), rank=rank, world=ranks)

    few = Few(ordered)
    states, read = [], []
    for rank in range(world):
        before = loader(rank, world, batch_size)
        read += positions(itertools.islice(before, stop))
        states.append(json.loads(json.dumps(before.state_dict())))
    assert all(state == states[0] for state in states)
    after = [loader(rank, world_after, batch_size_after) for rank in range(world_after)]
    for each in after:
        each.load_state_dict(states[0])
        assert len(each) == len(list(each.batch_sampler))
        read += positions(each)
    whole = [few[place]["sample"] for place in range(len(few))]
    missing = set(whole) - set(read)
    assert len(read) == len(set(read)) and len(missing) < world + world_after


class Few(OrderedDataset):
    """The first 61 places of an order."""

    def __init__(self, whole: OrderedDataset) -> None:
        self.__dict__.update(whole.__dict__)

    def __len__(self) -> int:
        return 61


def test_what_was_resumed_ends_and_the_next_pass_is_whole(phase: Path) -> None:
    loader, whole = ettin_data.torch_loader(phase, 50), reading_order(phase)
    loader.load_state_dict({**loader.state_dict(), "sample": 90})
    assert positions(loader) == whole[90:]
    assert loader.state_dict()["sample"] == len(whole)
    assert positions(loader) == whole


def test_a_state_of_another_order_is_refused(phase: Path, tmp_path: Path) -> None:

    out = str(tmp_path / "order-1")
    made = CliRunner().invoke(
        app, ["order", "make", str(phase / "train"), "--epoch", "1", "--batch", "16", "--out", out]
    )
    assert made.exit_code == 0, made.output
    loader, other = ettin_data.torch_loader(phase, 4), ettin_data.torch_loader(phase, 4, order=out)
    assert positions(other) != positions(loader)
    with pytest.raises(OrderError, match="the state is of the order"):
        other.load_state_dict(loader.state_dict())
    with pytest.raises(OrderError, match="samples"):
        ettin_data.torch_dataset(phase.parent / "decay", order=out)
    with pytest.raises(EttinError, match="rank 2 of 2"):
        ettin_data.torch_loader(phase, 4, rank=2, world=2)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_iterable_gives_each_rank_its_part_in_order(ordered: OrderedDataset, workers: int) -> None:
    read = []
    for rank in range(2):
        stream = ordered.stream(batch_size=6, rank=rank, world=2)
        loader = torch.utils.data.DataLoader(stream, 6, collate_fn=Packed(), num_workers=workers)
        read.append(positions(loader))
        assert len(read[-1]) == len(stream)
    whole = [ordered[place]["sample"] for place in range(len(ordered))]
    assert read == [whole[0::2], whole[1::2]]


def test_an_iterable_goes_on_behind_its_state(ordered: OrderedDataset) -> None:
    stream = ordered.stream(rank=1, world=2)
    first = [item["sample"] for item in itertools.islice(stream, 10)]
    state = stream.state_dict()
    assert state["sample"] == 20
    again = ordered.stream(rank=1, world=2)
    again.load_state_dict(state)
    assert len(again) == len(ordered) // 2 - 10
    rest = [item["sample"] for item in again]
    assert first + rest == [item["sample"] for item in ordered.stream(rank=1, world=2)]
    assert [item["sample"] for item in again] == first + rest


def test_torchdatas_stateful_loader_resumes_with_workers(ordered: OrderedDataset) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader():
        stream = ordered.stream(batch_size=4)
        return stateful.StatefulDataLoader(stream, 4, collate_fn=Packed(), num_workers=3)

    begun = loader()
    first = positions(itertools.islice(begun, 7))
    resumed = loader()
    resumed.load_state_dict(begun.state_dict())
    whole = [ordered[place]["sample"] for place in range(len(ordered))]
    assert first + positions(resumed) == whole


# ---------------------------------------------------------------------------------------------------------------------
# other readers


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_has_the_samples(phase: Path, tmp_path: Path, monkeypatch, streaming: bool) -> None:
    datasets: ModuleType = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    reader = MdsReader(phase / "train")
    rows = ettin_data.to_datasets(phase, streaming=streaming)
    assert [(row["id"], row["input_ids"]) for row in rows] == [
        (reader.id(i), reader.tokens(i).tolist()) for i in range(len(reader))
    ]
    assert rows.features["input_ids"].feature.dtype == "uint16"
    ordered = ettin_data.to_datasets(phase, in_order=True, streaming=streaming)
    assert [row["input_ids"] for row in ordered] == [reader.tokens(i).tolist() for i in reading_order(phase)]


def test_load_dataset_on_a_phase_says_how_it_is_read(packed: Path, tmp_path: Path) -> None:
    """Not samples of the JSON files beside the shards; what it says, and an export, give the samples."""
    datasets: ModuleType = pytest.importorskip("datasets")
    cache = str(tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=r"MDS shards, which ettin_data\.to_datasets\(folder\) reads"):
        datasets.load_dataset(str(packed), cache_dir=cache)
    said = CliRunner().invoke(app, ["export", str(packed), "--to", "parquet", "--out", str(tmp_path / "out")])
    assert said.exit_code == 0, said.output
    read = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=cache)
    held = ettin_data.to_datasets(packed, in_order=True, streaming=True)
    assert [row["input_ids"] for row in read] == [row["input_ids"] for row in held]


def test_a_layout_that_is_none_is_refused(phase: Path) -> None:
    with pytest.raises(OrderError, match="there is no layout 'pack'"):
        ettin_data.torch_loader(phase, 4, layout="pack")


def test_a_lazy_data_set_is_shared_among_workers(phase: Path) -> None:
    pytest.importorskip("datasets")
    rows = ettin_data.to_datasets(phase, streaming=True)
    loader = torch.utils.data.DataLoader(rows, batch_size=None, num_workers=2)
    assert sorted(row["id"] for row in loader) == sorted(row["id"] for row in rows)
    assert rows.num_shards > 30
    with pytest.raises(OrderError, match="validation has no order"):
        ettin_data.to_datasets(phase, part="validation", in_order=True)


def test_the_lines_of_a_card_work_as_written(packed: Path, monkeypatch, streaming: ModuleType) -> None:
    pytest.importorskip("datasets")
    monkeypatch.chdir(packed)
    lines = re.search(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert lines is not None
    made: dict[str, Any] = {}
    exec(lines[1], made)
    assert len(made["samples"]) == len(made["dataset"]) == sum(1 for _ in made["rows"])
    assert next(iter(made["loader"]))["input_ids"].shape[0] == 8
    assert made["dataset"][0]["input_ids"].tolist() == made["samples"][0]["input_ids"].tolist()


def test_the_numbers_of_a_phase_are_those_of_numpy(ordered: OrderedDataset) -> None:
    """The law, word for word (ARCHITECTURE 5.6): no code of ours between."""
    samples = len(ordered.samples)
    expected = np.random.Generator(np.random.PCG64DXSM(21)).permutation(samples)
    assert [ordered[place]["sample"] for place in range(0, len(ordered), 11)] == expected[: len(ordered) : 11].tolist()
