"""`order verify --shards`: what a few shards of the data can tell of a publication, and how surely."""

from __future__ import annotations

from math import comb
from pathlib import Path

import fsspec
import numpy as np
import pytest

from ettin_data.order.data import Data
from ettin_data.order.proof.outcome import Request, Verification, undetected
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order


def check(published, shards: int | None, **settings) -> Verification:
    return verify_order(Request(str(published.data), str(published.out), shards=shards, **settings))


def test_fewer_shards_tell_less_and_say_so(published) -> None:
    law = published.index.law.permutation()[: published.index.law.used]
    read = set[int]()
    for shards in (1, 3, 10):
        found = check(published, shards)
        said = to_json(found)["looked_up"]
        data = Data(str(published.data), shards=shards)
        assert read <= set(np.flatnonzero(data.here)) and data.here.sum() == shards  # more hold all that fewer do
        read = set(np.flatnonzero(data.here))
        assert (found.verdict, found.exit_status) == ("agrees", 3)
        assert said["samples"] == said["agree"] == data.present(law).sum() and said["of_samples"] == 992
        bad = said["at_most_bad_samples"]
        assert comb(992 - bad, said["samples"]) / comb(992, said["samples"]) > 0.05
        assert said["at_most_bad_shards"] == undetected(11, shards)
        assert f"{shards} of 11 shards were read" in "\n".join(to_lines(found))
    whole = check(published, 11)
    assert (whole.verdict, whole.exit_status, to_json(whole)["looked_up"]) == ("agrees", 0, None)


@pytest.mark.parametrize("seed", [21, 22])
def test_a_row_in_another_step_is_seen_if_its_shard_is_read(published, seed: int) -> None:
    """And another seed is found by a few shards alone."""
    data, order = Data(str(published.data), shards=4), published.index
    here = [data.present(order.step(k)).any() for k in (0, 9)]
    assert all(here)
    rows = published.rows()
    a = int(np.flatnonzero(data.present(order.step(0)))[0])
    b = 9 * 16 + int(np.flatnonzero(data.present(order.step(9)))[0])
    (file, step, one), (other, later, two) = rows[a], rows[b]
    rows[a], rows[b] = (file, step, two), (other, later, one)
    published.rewrite(rows)
    found = check(published, 4, seed=seed)
    said = to_json(found)["looked_up"]
    assert found.verdict == "differs" and said["samples"] - said["agree"] == 2 and "at_most_bad_samples" not in said
    if seed == 22:
        assert any("another seed: 21" in str(deviation) for deviation in found.deviations)


def test_too_few_rows_of_the_shards_prove_nothing(published) -> None:
    found = check(published, 1, sample=1 / 62)
    assert (found.verdict, found.exit_status) in [("cannot tell", 2), ("unchecked", 3)]
    assert check(published, 11, sample=1 / 62).verdict == "agrees"


def test_only_these_shards_are_fetched(published, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(published.data), "/some_shards", recursive=True)
    request = Request("memory://some_shards", str(published.out), shards=3, cache=tmp_path / "cache")
    found = verify_order(request)
    assert (found.verdict, found.exit_status) == ("agrees", 3)
    assert len(list((tmp_path / "cache").rglob("*.mds"))) == 3


def test_a_bound_at_full_size_is_computed_at_once() -> None:
    bad = undetected(2_800_000_000, 520)
    assert 0.0057 < bad / 2.8e9 < 0.0058  # 1 - 0.05 ** (1 / 520)
