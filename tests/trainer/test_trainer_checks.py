"""What the verifier must see: each fault is made on purpose, and the step and the sample have to be named."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import built_run
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from built_run import write_phase
from modernbert import CLS, MASK, loader

from ettin_data.base.errors import OrderError
from ettin_data.load.samples import OrderSampler, SampleDataset
from ettin_data.order.index import OrderIndex
from ettin_data.storage.mds import MdsReader, bytes_digest, read_index, write_index
from ettin_data.trainer.checks import Verifier, source_tokens, survey
from ettin_data.trainer.config import TrainConfig
from ettin_data.trainer.content import ContentHashes, VerificationError
from ettin_data.trainer.data import IGNORED, Batch, Collator, StepBatches, make_loader
from ettin_data.trainer.phases import PHASES, PhaseFolder
from ettin_data.trainer.prepare import Prepared, prepare
from ettin_data.trainer.world import World

NAMED = r"pretrain, step \d+, sample \d+: "


def verifier(phase: Path, kind="encoder", **options) -> Verifier:
    index = MdsReader(phase / "train")
    order = OrderIndex.open(phase / "order")
    return Verifier("pretrain", order, index, ContentHashes(index), kind, loader(1024), **options)


def steps(phase: Path, kind="encoder", rank: int = 0, world: int = 1, **options) -> list[StepBatches]:
    order = OrderIndex.open(phase / "order")
    collator = Collator(kind, loader(1024), batch_tokens=100, **options)
    return list(make_loader(SampleDataset(phase / "train"), OrderSampler(order, rank, world), collator))


def opened(phase: Path) -> Prepared:
    folder = PhaseFolder(PHASES["pretrain"], phase)
    return prepare(folder, TrainConfig((folder,), phase / "out"), World(0, 1, torch.device("cpu")))


def change_sample(phase: Path, position: int, *, update_index: bool = False) -> None:
    """Edit one token of a stored sample, as somebody might after the build."""
    index = MdsReader(phase / "train")
    number, row = index.locate(position)
    path = phase / "train" / index.infos[number].basename
    data = bytearray(path.read_bytes())
    data[int(index.shard(number).offsets[row + 1]) - 5] ^= 1
    path.write_bytes(data)
    if update_index:  # with the shard's hash made right again
        infos = read_index(phase / "train")
        infos[number] = replace(infos[number], hashes={"xxh3_64": bytes_digest(bytes(data))})
        write_index(phase / "train", infos)


# ---------------------------------------------------------------------------------------------------------------------
# nothing wrong


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_good_steps_pass_and_are_counted(phase, kind, layout):
    check = verifier(phase, kind)
    check.check_order_files()
    for part in steps(phase, kind, layout=layout):
        check.check(part)
    used = check.order.law.used
    assert check.counts["samples"] == check.counts["order rows"] == check.counts["law rows"] == used
    assert check.hashes.checked == {"ledger": used} and check.counts["steps"] == check.order.steps
    tokens = sum(len(check.index.tokens(int(i))) for k in range(check.order.steps) for i in check.order.step(k))
    assert check.counts["stored tokens"] == tokens and check.counts["documents"] == used


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_checks_its_part(phase, rank):
    check = verifier(phase, rank=rank, world=2)
    for part in steps(phase, rank=rank, world=2):
        check.check(part)
    other = verifier(phase, rank=1 - rank, world=2)
    with pytest.raises(VerificationError, match=NAMED + "it reached the model in row 0"):
        other.check(part)


# ---------------------------------------------------------------------------------------------------------------------
# the data is not what was built


@pytest.mark.parametrize("update_index", [False, True], ids=["shard hash stale", "shard hash made right"])
def test_an_edited_sample_is_named_by_step_and_sample(phase, update_index):
    order = OrderIndex.open(phase / "order")
    step, position = 3, int(order.step(3)[2])
    change_sample(phase, position, update_index=update_index)
    with pytest.raises(VerificationError, match=rf"pretrain, step {step + 1}, sample {position}: its content changed"):
        survey(verifier(phase), 10**6)
    with pytest.raises(VerificationError, match=rf"step {step + 1}, sample {position}"):  # and not only the index
        opened(phase)
    check, parts = verifier(phase), steps(phase)
    for part in parts[:step]:
        check.check(part)
    with pytest.raises(
        VerificationError, match=rf"pretrain, step {step + 1}, sample {position}: its content changed"
    ) as e:
        check.check(parts[step])
    assert "the ledger says" in str(e.value) and "shard.0" in str(e.value) and ", row " in str(e.value)
    assert check.counts["steps"] == step


def test_without_a_ledger_the_shard_hash_is_checked(tmp_path):
    phase = write_phase(tmp_path / "pretrain", ledger=False)
    check = verifier(phase)
    survey(check, 10**6)
    assert check.hashes.checked == {"shard": len(check.index)}
    change_sample(phase, 5)
    with pytest.raises(VerificationError, match=NAMED + "its content changed") as e:
        survey(verifier(phase), 10**6)
    assert "its shard has the xxh3_64" in str(e.value)


def test_a_ledger_of_another_split_is_refused(phase):
    ledgers = sorted((phase / "train").rglob("samples.parquet"))
    other = write_phase(phase.parent / "other", samples=80)
    shutil.copy(next((other / "train").rglob("samples.parquet")), ledgers[0])
    with pytest.raises(VerificationError, match="the ledger has 20 samples, the index 10"):
        survey(verifier(phase), 10**6)


@pytest.mark.parametrize("damage", ["cut", "zeros", "missing"])
def test_a_corrupted_shard_is_named_by_step_and_sample(phase, damage):
    path = sorted((phase / "train").rglob("*.mds"))[1]
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-100] if damage == "cut" else data[:-300] + bytes(300))
    with pytest.raises(VerificationError, match=NAMED) as e:
        survey(verifier(phase), 10**6)
    assert path.name in str(e.value)


def test_a_token_outside_the_vocabulary_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(built_run, "SEP", 50400)
    phase = write_phase(tmp_path / "pretrain")
    with pytest.raises(VerificationError, match=NAMED + "it cannot be trained on") as e:
        survey(verifier(phase), 10**6)
    assert "50400" in str(e.value)


# ---------------------------------------------------------------------------------------------------------------------
# the order is not the one that was promised


def test_swapped_order_files_are_named_by_step_and_sample(phase):
    a, b = phase / "order" / "interval_000001.parquet", phase / "order" / "interval_000002.parquet"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    wrong = int(OrderIndex.open(phase / "order").step(0)[0])
    with pytest.raises(
        VerificationError, match=rf"pretrain, step 1, sample {wrong}: the order index has it in row 0"
    ) as e:
        verifier(phase).check_order_files()
    assert "the order law (seed 21, epoch 0) has sample" in str(e.value)
    with pytest.raises(VerificationError, match=r"pretrain, step 1, sample"):
        verifier(phase).check(steps(phase)[0])


def test_rows_that_another_program_swapped_are_named(phase):
    path = phase / "order" / "interval_000002.parquet"
    table = pq.read_table(path).to_pandas()
    rows = table["sample"].to_numpy().copy()
    rows[[1, 2]] = rows[[2, 1]]
    pq.write_table(pa.Table.from_pandas(table.assign(sample=rows), preserve_index=False), path)
    with pytest.raises(VerificationError, match=rf"step 4, sample {rows[1]}: the order index has it in row 1"):
        verifier(phase).check_order_files()


def test_two_swapped_rows_are_named(phase):
    path = phase / "order" / "interval_000002.parquet"
    order = OrderIndex.open(phase / "order")
    rows = order.step(4).copy()
    data = path.read_bytes()
    old, new = rows.tobytes(), rows[[0, 2, 1, 3]].tobytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(
        VerificationError, match=rf"pretrain, step 5, sample {rows[2]}: the order index has it in row 1"
    ):
        verifier(phase).check_order_files()


def test_a_short_order_file_is_named(phase):
    last = sorted((phase / "order").glob("*.parquet"))[-1]
    shutil.copy(last, phase / "order" / "interval_000001.parquet")
    with pytest.raises((VerificationError, OrderError)):
        verifier(phase).check_order_files()


def test_an_order_of_other_data_is_refused(phase, tmp_path):
    other = write_phase(tmp_path / "other", seed=9)
    shutil.rmtree(phase / "order")
    shutil.copytree(other / "order", phase / "order")
    with pytest.raises(OrderError, match="of other data"):
        opened(phase)


# ---------------------------------------------------------------------------------------------------------------------
# the batch is not what the data says


def broken(part: StepBatches, **changes) -> StepBatches:
    return part._replace(batches=[part.batches[0]._replace(**changes), *part.batches[1:]])


def encoder_faults(batch: Batch):
    tokens, labels = batch.tokens.copy(), batch.labels.copy()
    masked, plain = np.flatnonzero(labels != IGNORED), np.flatnonzero((labels == IGNORED) & (tokens < 50_000))
    yield "the model reads other tokens", {"tokens": np.where(np.arange(len(tokens)) == plain[0], 7, tokens)}
    yield "the model reads other tokens", {"labels": np.where(np.arange(len(tokens)) == masked[0], 7, labels)}
    labels[0] = CLS
    yield "token 50281 was masked", {"tokens": np.where(np.arange(len(tokens)) == 0, MASK, tokens), "labels": labels}
    yield "the loss is not computed where", {"scored": batch.scored[1:]}
    yield "a border between documents is missing", {"cu_seqlens": np.delete(batch.cu_seqlens, 1)}
    extra = np.sort(np.append(batch.cu_seqlens, batch.cu_seqlens[1] - 3)).astype(np.int32)
    yield "a document border in its batch is not at", {"cu_seqlens": extra}


def test_encoder_faults_are_named(phase):
    part = steps(phase)[1]
    for message, changes in encoder_faults(part.batches[0]):
        with pytest.raises(VerificationError, match=rf"pretrain, step 2, sample \d+: .*{re.escape(message)}"):
            verifier(phase).check(broken(part, **changes))


def test_a_swapped_or_lost_sample_is_named(phase):
    part = steps(phase)[1]
    first = part.batches[0].positions
    with pytest.raises(VerificationError, match=r"step 2, sample \d+: it reached the model in row 0"):
        verifier(phase).check(broken(part, positions=first[::-1].copy() if len(first) > 1 else first + 1))
    with pytest.raises(VerificationError, match=r"step 2"):
        verifier(phase).check(part._replace(batches=part.batches[1:]))
    with pytest.raises(VerificationError, match=r"step 1, sample"):
        verifier(phase).check(part._replace(step=0))


def test_wrong_next_token_labels_are_named(phase):
    part = steps(phase, "decoder")[1]
    batch = part.batches[0]
    for at, value in ((3, 7), (int(batch.lengths[0]) - 1, 7), (2, IGNORED)):
        labels = batch.labels.copy()
        labels[at] = value
        with pytest.raises(VerificationError, match=rf"step 2, sample \d+: label of token {at} is {value}"):
            verifier(phase, "decoder").check(broken(part, labels=labels))


# ---------------------------------------------------------------------------------------------------------------------
# the survey


def test_survey_counts(phase):
    found = survey(verifier(phase), 10**6)
    stored = [verifier(phase).index.tokens(i) for i in range(40)]
    assert found.lengths.tolist() == [len(s) for s in stored] and len(found.lengths) == 40
    assert found.counts.sum() == sum(len(s) - 2 for s in stored)  # an encoder's targets: no special tokens
    assert 0 < found.entropy < np.log(400) + 1e-9
    assert found.source_tokens == {
        k: v["tokens"] for k, v in json.loads((phase / "run.json").read_text())["sources"].items()
    }
    part = survey(verifier(phase), 10)
    assert part.lengths is None and part.counts.sum() < found.counts.sum()


def test_copies_count_for_their_source(tmp_path):
    phase = write_phase(tmp_path / "pretrain")
    (phase / "train" / "wikipedia").rename(phase / "train" / "code_repos-dup_2")
    infos = [
        replace(i, basename=i.basename.replace("wikipedia", "code_repos-dup_2")) for i in read_index(phase / "train")
    ]
    write_index(phase / "train", infos)
    index = MdsReader(phase / "train")
    assert source_tokens(index, np.ones(len(index), np.int64)) == {"code_repos": len(index)}
