"""One index of a tree: the shards of its folders in the order asked for, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ettin_data.base.errors import ShardError
from ettin_data.cli import main as cli
from ettin_data.storage.mds import MdsReader, ShardWriter, merge, read_index, write_index


def write(folder: Path, samples: int, first: int) -> None:
    folder.mkdir(parents=True)
    writer = ShardWriter(folder)
    numbers = range(first, first + samples)
    tokens = np.array([[1, n, 2] for n in numbers], np.uint16).reshape(-1)
    writer.write([str(n) for n in numbers], tokens, np.arange(samples + 1) * 3)
    write_index(folder, writer.finish())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, name in enumerate(("b/part_9", "b/part_10", "a/x", "c")):
        write(tmp_path / "tree" / name, 3 + number, 10 * number)
    (tmp_path / "tree/.cache/huggingface").mkdir(parents=True)
    (tmp_path / "tree/.cache/huggingface/index.json").write_text("another kind of file")
    (tmp_path / "tree/empty").mkdir()
    (tmp_path / "tree/empty/num_tokens.json").write_text("{}")
    return tmp_path / "tree"


def run(*words: object):
    return CliRunner().invoke(cli.app, ["index", *map(str, words)])


def ids(folder: Path) -> list[int]:
    return [int(sample["id"]) for sample in MdsReader(folder)]


def spans(*pairs: tuple[int, int]) -> list[int]:
    return [n for first, count in pairs for n in range(first, first + count)]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("sorted", spans((20, 5), (10, 4), (0, 3), (30, 6))),
        ("natural", spans((20, 5), (0, 3), (10, 4), (30, 6))),
        ("c\n# the rest\n\nb/part_9/\nb/part_10\na/x/shard.00000.mds\n", spans((30, 6), (0, 3), (10, 4), (20, 5))),
        ("c\nb/part_9\n", spans((30, 6), (0, 3))),
    ],
)
def test_the_index_lists_the_shards_in_the_order_asked_for(tree: Path, tmp_path: Path, order: str, expected: list[int]):
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    if order not in merge.ORDERS:
        (tmp_path / "order").write_text(order)
        order = str(tmp_path / "order")
    dry = run(tree, "--order", order, "--dry-run")
    assert dry.exit_code == 0 and f"{len(expected)} samples" in dry.output and not (tree / "index.json").exists()
    done = run(tree, "--order", order)
    assert done.exit_code == 0 and f"{len(expected)} samples" in done.output
    assert ids(tree) == expected
    assert ("not named" in done.output) == (len(expected) == 9)
    assert {path: path.read_bytes() for path in before} == before
    again = run(tree, "--order", order)
    assert again.exit_code == 0 and "already" in again.output


def test_another_index_is_replaced_only_when_asked(tree: Path) -> None:
    run(tree)
    refused = run(tree, "--order", "natural")
    assert isinstance(refused.exception, ShardError) and "another index" in str(refused.exception)
    assert run(tree, "--order", "natural", "--replace").exit_code == 0 and ids(tree)[:8] == spans((20, 5), (0, 3))


def test_a_merged_index_further_down_says_nothing_more(tree: Path) -> None:
    assert run(tree / "b").exit_code == 0 and run(tree).exit_code == 0
    assert sorted(ids(tree)) == sorted(spans((0, 3), (10, 4), (20, 5), (30, 6)))


def test_a_partial_download_is_indexed_and_said(tree: Path) -> None:
    (tree / "c/shard.00000.mds").unlink()
    done = run(tree)
    assert done.exit_code == 0 and "1 shards are not here yet, such as c/shard.00000.mds" in done.output
    assert sum(shard.samples for shard in read_index(tree)) == 18


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: (tree / "c/index.json").unlink(), "without an index"),
        (lambda tree: (tree / "c/index.json").write_text("<html>"), "not a valid index"),
        (lambda tree: write_index(tree, read_index(tree / "c")), "shards of its own"),
        (lambda tree: (tree.parent / "order").write_text("b/part_9\nb/part_11\n"), "did you mean b/part_1"),
        (lambda tree: (tree.parent / "order").write_text("c\nc/shard.00000.mds\n"), "named twice"),
        (lambda tree: (tree.parent / "order").write_bytes(b"\xff"), "no order of folders"),
    ],
)
def test_what_cannot_be_indexed_is_named_and_nothing_is_written(tree: Path, change, said: str) -> None:
    change(tree)
    own = (tree / "index.json").exists()
    refused = run(tree, *(("--order", tree.parent / "order") if (tree.parent / "order").exists() else ()))
    assert isinstance(refused.exception, ShardError) and said in str(refused.exception)
    assert (tree / "index.json").exists() == own


def test_a_folder_without_shards(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert isinstance(run(folder).exception, ShardError)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abc019²٣", min_size=1, max_size=4), unique=True, min_size=1, max_size=12))
def test_both_orders_are_orders_of_all_names(names: list[str]) -> None:
    turned = names[::-1]
    for key in merge.ORDERS.values():
        assert sorted(names, key=key) == sorted(turned, key=key)
