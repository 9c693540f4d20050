"""Publications of other loaders: agreed with under their own law, found by inference, and never taken for another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from modernbert import form
from random_data import write_data

from ettin_data.order.export import export_law
from ettin_data.order.laws import Reading, ReadOrder, Samples, Sequential, Streaming, law_named
from ettin_data.order.laws.streaming import SHUFFLES
from ettin_data.order.proof.loaders import plausible
from ettin_data.order.proof.outcome import Request
from ettin_data.order.proof.verify import verify_order
from ettin_data.storage.mds import MdsReader

COUNT = 1003


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loaders")
    write_data(folder / "train", COUNT)
    return folder / "train"


def published(data: Path, out: Path, law: Reading) -> Path:
    export_law(law, data, out, phase="pretrain", form=form(), interval_steps=25, steps_per_file=10)
    return out


def words(law: Reading) -> str:
    names = {
        Sequential: ("drop_last", "world"),
        Streaming: ("shuffle", "seed", "epoch", "nodes", "ranks", "canonical", "block"),
    }
    given = {name: getattr(law, name) for name in ("batch", *names[type(law)])}
    return law.name + ":" + ",".join(f"{k}={str(v).lower()}" for k, v in given.items() if v is not None)


OWN = [
    Sequential(16, world=8, drop_last=False),
    Streaming(16, canonical=8),
    *(Streaming(16, shuffle, ranks=4, block=90) for shuffle in SHUFFLES[1:]),
    Streaming(16, "py1s", 5, 2, nodes=2, ranks=2),
]


@pytest.mark.parametrize("law", OWN, ids=words)
def test_it_agrees_under_its_own_law(data: Path, tmp_path: Path, law: Reading) -> None:
    out = published(data, tmp_path / "out", law)
    assert law_named(words(law), 1) == law
    found = verify_order(Request(str(data), str(out), law=words(law)))
    assert (found.verdict, found.exit_status) == ("agrees", 0), found.deviations
    assert found.asked.name == law.name and all(result.agrees for result in found.checked)


INFERRED = [
    Sequential(16),
    Streaming(16, canonical=8),
    Streaming(16, "naive"),
    Streaming(16, "py2s", 17, canonical=64),
    Streaming(16, "py1br", 21, 1),
    Streaming(16, "py1e", canonical=2),
]


@pytest.mark.parametrize("law", INFERRED, ids=words)
def test_it_is_found_among_plausible_ones(data: Path, tmp_path: Path, law: Reading) -> None:
    out = published(data, tmp_path / "out", law)
    found = verify_order(Request(str(data), str(out)))
    assert found.verdict == "explained" and found.exit_status == 1, found.deviations
    assert found.deviations[0].name == "another_law" and law.name in found.deviations[0].text
    order = found.explanation.law.permutation()
    assert order.tolist() == law.order(Samples(np.diff(MdsReader(data).starts))).tolist()
    assert all(result.agrees for result in found.checked)


def test_a_planted_fault_is_found_under_another_law(data: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    out = published(data, tmp_path / "out", Streaming(16, "py1e"))
    path = sorted(out.rglob("*.parquet"))[2]
    table = pq.read_table(path)
    rows = table["input_ids"].to_pylist()
    rows[5], rows[40] = rows[40], rows[5]  # of steps 1 and 3 of the file
    import pyarrow as pa

    pq.write_table(table.set_column(0, table.schema.field(0), pa.array(rows, table.schema.field(0).type)), path)
    for law in (None, "mosaicml-streaming-v1:shuffle=py1e"):
        found = verify_order(Request(str(data), str(out), law=law))
        assert found.verdict == "differs" and sum(not result.agrees for result in found.checked) == 2


@pytest.mark.parametrize(
    "law", [Streaming(16, "py1s", 99), Streaming(16, "py1e", canonical=3), Streaming(16, "naive", 99)]
)
def test_a_law_that_is_not_among_them_is_not_taken_for_one(data: Path, tmp_path: Path, law: Reading) -> None:
    out = published(data, tmp_path / "out", law)
    found = verify_order(Request(str(data), str(out), seeds=(21, 9176)))
    assert found.verdict == "differs" and not found.fits
    assert found.inference is not None and found.inference.loaders > 100


def test_another_law_of_the_same_family_is_no_agreement(data: Path, tmp_path: Path) -> None:
    out = published(data, tmp_path / "out", Streaming(16, "py1e", block=90))
    for law in ("sequential-v1", "mosaicml-streaming-v1:shuffle=py1s", "mosaicml-streaming-v1:shuffle=py1e,block=91"):
        found = verify_order(Request(str(data), str(out), law=law, infer=False))
        assert found.verdict == "differs" and found.exit_status == 1


def test_the_order_is_as_long_as_it_says() -> None:
    sizes = np.array([37, 5, 80, 1, 44])
    for law in [*plausible(ReadOrder.of(Sequential(8), sizes)), Streaming(8, nodes=4, ranks=2, canonical=2)]:
        assert law.read(167) == len(law.order(Samples(sizes)))
        assert ReadOrder.of(replace(law, batch=8), sizes).steps == law.read(167) // 8
