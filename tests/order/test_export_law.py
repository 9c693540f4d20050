"""What other loaders would have read, exported: rows of the law, in files and folders of the published form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from modernbert import form
from typer.testing import CliRunner

from ettin_data.base.errors import OrderError
from ettin_data.cli import main as cli
from ettin_data.order.data import Data
from ettin_data.order.laws import Packed, Samples, Sequential, Streaming, law_named, steps
from ettin_data.storage.mds import MdsReader

LAWS = (
    "sequential-v1",
    "mosaicml-streaming-v1:shuffle=py1e,ranks=4,block=100",
    "mosaicml-streaming-v1:batch=8",
    "modernbert-packed-v1:length=40,batch=16,world=2,micro=2",
)


def export(published, *words: object):
    command = ["order", "export", published.data.parent, published.out / "law", "--steps-per-file", 10, *words]
    command.insert(3, "--out")
    return CliRunner().invoke(cli.app, [str(word) for word in command])


def written(folder: Path) -> list[tuple[str, int, list[int]]]:
    rows = []
    for path in sorted(folder.rglob("*.parquet")):
        table = pq.read_table(path)
        pairs = zip(table["step"].to_pylist(), table["input_ids"].to_pylist(), strict=True)
        rows += [(path.parent.name, step, row) for step, row in pairs]
    return rows


@pytest.mark.parametrize("text", LAWS)
def test_the_rows_are_those_of_the_law(published, text: str) -> None:
    done = export(published, "--law", text)
    assert done.exit_code == 0, done.output
    reader = MdsReader(published.data)
    data = Samples(np.diff(reader.starts), Data(str(published.data)).lengths(form()))
    assert data.lengths.tolist() == [len(reader.tokens(i)) for i in range(len(reader))]
    expected = [
        (f"checkpoint_{k // 25 + 1:06d}", k + 1, [t for p in row.tolist() for t in reader.tokens(p).tolist()])
        for k, step in enumerate(steps(law_named(text, 16), data))
        for row in step
    ]
    assert written(published.out / "law") == expected and len(expected) > 100


def test_some_steps_and_a_form(published) -> None:
    whole, some = published.out / "whole", published.out / "law"
    assert export(published, "--law", LAWS[1], "--as", "encoder", "--max-seq-len", 20).exit_code == 0
    some.rename(whole)
    done = export(
        published, "--law", LAWS[1], "--as", "encoder", "--max-seq-len", 20, "--first-step", 7, "--last-step", 28
    )
    assert done.exit_code == 0 and "22 steps" in done.output
    assert written(some) == [row for row in written(whole) if 7 <= row[1] <= 28]
    assert max(len(row) for _, _, row in written(some)) == 20
    names = [path.name for path in sorted(some.rglob("*.parquet"))]
    assert names[0] == "steps_000007_to_000010.parquet" and names[-1] == "steps_000026_to_000028.parquet"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--law", "sequential"), "did you mean sequential-v1"),
        (("--law", "sequential-v1:wrold=2"), "did you mean world"),
        (("--law", "sequential-v1:world=two"), "cannot be 'two'"),
        (("--law", "sequential-v1:drop_last=no"), "cannot be 'no'"),
        (("--law", "modernbert-packed-v1:micro=2"), "needs length"),
        (("--law", "sequential-v1", "--last-step", 99), "there are 62"),
        (("--law", "sequential-v1", "--first-step", 99), "fewer than 99"),
    ],
)
def test_what_cannot_be_exported_is_named(published, words, said: str) -> None:
    refused = export(published, *words)
    assert isinstance(refused.exception, OrderError) and said in str(refused.exception)


def test_a_law_is_read_from_its_words() -> None:
    assert law_named("sequential-v1:drop_last=false", 4) == Sequential(4, drop_last=False)
    assert law_named("mosaicml-streaming-v1:shuffle=py2s,seed=3", 8) == Streaming(8, "py2s", 3)
    assert law_named("modernbert-packed-v1:length=64,world=1,micro=4,buffer=9", 8) == Packed(64, 8, 1, 4, buffer=9)
