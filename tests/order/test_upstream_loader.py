"""Laws and verdicts against the reference's own loader, where a checkout of it is there (`upstream.py`)."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modernbert import PAD, form
from random_data import write_data, write_rows
from upstream import VARIABLE, Upstream, checkout, pieces, special_tokens

from ettin_data.order.laws import Packed, Samples, law_named, steps
from ettin_data.order.proof.outcome import Request
from ettin_data.order.proof.packed_rows import verify_packed
from ettin_data.order.proof.report import to_json
from ettin_data.order.proof.verify import verify_order
from ettin_data.order.published import file_name, folder_name
from ettin_data.storage.mds import MdsReader
from ettin_data.tokenizer.encoder import TokenizerFile

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def upstream(streaming) -> Upstream:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    place = checkout()
    if place is None:
        pytest.skip(f"{VARIABLE} names no checkout of AnswerDotAI/ModernBERT")
    return Upstream(place)


@pytest.fixture(scope="module")
def words(tokenizer_file: TokenizerFile):
    return special_tokens(tokenizer_file)


@settings(max_examples=500, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40) | st.integers(3, 8), min_size=8, max_size=400),
    world=st.sampled_from([1, 2, 8]),
    micro=st.integers(1, 3),
    rows=st.integers(1, 5),
    length=st.integers(4, 32),
    buffer=st.none() | st.integers(5, 60),
    warm=st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4000)),
    seed=st.integers(0, 100),
    decoder=st.booleans(),
)
def test_the_packer(upstream, lengths, world, micro, rows, length, buffer, warm, seed, decoder) -> None:
    """Sample i is made of the id i + 1, so that rows say who is in them. Without masking the warm-up never moves."""
    from torch.utils.data import DataLoader

    warm = None if warm is None or warm[0] >= rows else warm
    own = micro * rows
    law = Packed(
        length, world * own, world, micro, seed, 0, buffer,
        **({} if warm is None else {"warmup_batch": warm[0] * micro, "warmup_tokens": 10**15 if decoder else warm[1]}),
    )  # fmt: skip
    data = [{"input_ids": np.full(min(size, length), i + 1)} for i, size in enumerate(lengths)]
    ranks = []
    for rank in range(world):
        loader = DataLoader(data, own, sampler=upstream.sampler(data, world, rank, seed), collate_fn=lambda x: x)
        packer = upstream.packer.from_composer(
            loader, own, micro, length, 5 * own if buffer is None else buffer, mask_token_id=len(lengths) + 1,
            batch_size_warmup_min_size=law.warmup_batch, batch_size_warmup_tokens=warm and warm[1], world_size=world,
            suppress_masking=decoder,
        )  # fmt: skip
        ranks.append([[[int(piece[0]) - 1 for piece in row] for row in pieces(batch)] for batch in packer])
    made = [[row.tolist() for row in step] for step in steps(law, samples(lengths))]
    assert made == [[row for of_rank in step for row in of_rank] for step in zip(*ranks, strict=False)]


def samples(lengths: list[int]) -> Samples:
    return Samples(np.array([len(lengths)], np.int64), np.array(lengths, np.int64))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("upstream")
    write_data(folder / "train", 2007, length=60)
    return folder / "train"


@pytest.mark.parametrize("world", [1, 2, 8])
@pytest.mark.parametrize("warm", [None, (4, 30_000)])
@pytest.mark.parametrize("masked", [False, True])
def test_packed_rows(upstream, words, data: Path, tmp_path: Path, world: int, warm, masked: bool) -> None:
    """The whole loader: its data set, sampler, DataLoader and packer, over shards of this project."""
    options = {} if warm is None else {"batch_size_warmup_min_size": warm[0], "batch_size_warmup_tokens": warm[1]}
    text = f"modernbert-packed-v1:length=50,batch=64,world={world},micro=2,seed=12345"
    text += "" if warm is None else f",warmup_batch={warm[0]},warmup_tokens={warm[1]}"
    law, reader = law_named(text, 64), MdsReader(data)
    ranks = [
        list(
            upstream.loader(
                data, words, world, rank, 64, 2, max_seq_len=50, shuffle_seed=12345, mlm_probability=0.3,
                sequence_packing=True, **options,
            )
        )
        for rank in range(world)
    ]  # fmt: skip
    assert min(map(len, ranks)) > 20
    seen = form("encoder" if upstream.edits else "decoder", 50)
    lengths = [len(seen.apply(reader.tokens(i))) for i in range(len(reader))]
    rows: list[list[int]] = []
    numbers: list[int] = []
    made = steps(law, samples(lengths))
    for number, (step, batches) in enumerate(zip_longest(made, zip(*ranks, strict=False)), 1):
        given = [row for batch in batches for row in pieces(batch)]
        assert len(step) == len(given)
        for row, samples_of_row in zip(step, given, strict=True):
            assert len(row) == len(samples_of_row)
            for position, tokens in zip(row.tolist(), samples_of_row, strict=True):
                assert np.array_equal(tokens, seen.apply(reader.tokens(position)))
        for batch in batches:
            saved = batch["input_ids"].tolist() if masked else [np.concatenate(row).tolist() for row in pieces(batch)]
            rows += saved
            numbers += [number] * len(saved)
    path = tmp_path / f"out/{folder_name('pretrain', 1)}/{file_name(1, 100)}"
    write_rows(path, rows, numbers)
    found = verify_packed(Request(str(data), str(tmp_path / "out"), law=text))
    assert (found.verdict, found.exit_status) == ("agrees", 0), found.to_lines()
    if warm is None:
        found = verify_packed(Request(str(data), str(tmp_path / "out")))
        assert (found.verdict, found.law) == ("explained", law), found.to_lines()
    rows[0], rows[-1] = rows[-1], rows[0]
    write_rows(path, rows, numbers)
    found = verify_packed(Request(str(data), str(tmp_path / "out"), law=text))
    wrong = [step.name.split()[1] for step in found.steps if not step.agrees]
    assert found.verdict == "differs" and wrong == ["1", str(numbers[-1])], found.to_lines()


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("share", [None, 0.3, 0.15, 0.05])
def test_rows_without_packing(upstream, words, data: Path, tmp_path: Path, world: int, share: float) -> None:
    """Data set, sampler, DataLoader and collator, as saved from all ranks: of an encoder, masked, and of a decoder."""
    pytest.importorskip("torch").manual_seed(world)
    objective = {"mlm_probability": share} | ({"suppress_masking": True} if upstream.edits and share is None else {})
    ranks = [
        list(upstream.loader(data, words, world, rank, 48, 2, max_seq_len=50, shuffle_seed=21, **objective))
        for rank in range(world)
    ]
    rows: list[list[int]] = []
    numbers: list[int] = []
    for number, batches in enumerate(zip(*ranks, strict=True), 1):
        for batch in batches:
            rows += batch["input_ids"].tolist()
            numbers += [number] * len(batch["input_ids"])
    assert numbers[-1] == (2007 - 2007 % world) // 48
    path = tmp_path / f"out/{folder_name('pretrain', 1)}/{file_name(1, 200)}"
    write_rows(path, rows, numbers)
    found = verify_order(Request(str(data), str(tmp_path / "out"), batch=48))
    assert (found.verdict, found.exit_status) == ("agrees", 0), found.deviations
    assert all(result.agrees for result in found.checked)
    long = [i for i, row in enumerate(rows) if row[-1] != PAD]  # enough is left of these to say where they belong
    rows[long[0]], rows[long[-1]] = rows[long[-1]], rows[long[0]]
    write_rows(path, rows, numbers)
    found = verify_order(Request(str(data), str(tmp_path / "out"), batch=48))
    assert (found.verdict, found.exit_status) == ("differs", 1)
    kinds = {difference["kind"] for difference in to_json(found)["differences"]}
    assert "other_step" in kinds and sum(not result.agrees for result in found.checked) == 2
