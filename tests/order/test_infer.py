"""The search for a seed where orders are large: most candidates cost the end of their order only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ettin_data.order.law import OrderLaw
from ettin_data.order.proof import infer as module
from ettin_data.order.proof.catalog import read_catalog
from ettin_data.order.proof.infer import infer
from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.probe import Evidence
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order
from ettin_data.order.published import list_published


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A thousand samples count as billions: one seed is shuffled, the others are refuted. Gives the shuffled seeds."""
    monkeypatch.setattr(module, "_WORK", 1003)
    monkeypatch.setattr(module, "_DRAWN", 15 * 1003)
    made, permutation = list[int](), OrderLaw.permutation

    def counted(law: OrderLaw):
        made.append(law.seed + law.epoch)
        return permutation(law)

    monkeypatch.setattr(OrderLaw, "permutation", counted)
    return made


def check(published, **settings) -> Verification:
    return verify_order(Request(str(published.data), str(published.out), **settings))


@pytest.mark.parametrize(("asked", "files"), [(20, 7), (9176, 7), (2000, 7), (20, 2)])
def test_the_right_seed_is_left_over(published, large: list[int], asked: int, files: int) -> None:
    """Whether the end of the order was published or its beginning alone."""
    for path in published.files()[files:]:
        path.unlink()
    found = check(published, seed=asked)
    assert found.verdict == "explained" and "another seed: 21" in "\n".join(to_lines(found))
    assert set(large) <= {asked, 21} or files == 2


def test_what_was_not_tried_is_said(make, large: list[int]) -> None:
    published = make(1003, 16, seed=123_456)
    found = check(published)
    said = to_json(found)["inference"]
    assert found.verdict == "differs" and (said["seeds_tried"], said["believed"]) == (1, False)
    assert said["seeds_refuted"] > 400 and said["seeds_left"] > 1000 and set(large) <= {21, 123_456}
    told = "\n".join(to_lines(found))
    assert f"{said['seeds_refuted']:,} more are none in this shard order" in told
    assert f"not tried  {said['seeds_left']:,} more seeds" in told and "GB (--seeds and --epochs name some)" in told
    named = to_json(check(published, seeds=tuple(range(500))))["inference"]  # all that somebody names
    assert (named["seeds_tried"], named["seeds_refuted"], named["seeds_left"]) == (1, 499, 0)
    assert check(published, seeds=(5, 6, 123_456)).verdict == "explained"


def test_no_seed_is_refuted_that_has_what_was_published(published, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every number of first and last steps that was published, whatever the other candidates are."""
    monkeypatch.setattr(module, "_WORK", 1003)
    law = published.index.law
    catalog = read_catalog(str(published.out), list_published(str(published.out)))
    order, refuted = law.permutation()[: law.used].astype(np.int64), 0
    starts = np.arange(0, 1103, 100).clip(max=1003)
    for first in range(0, 45, 4):
        entry = np.repeat(np.arange(len(catalog)), 16)[first * 16 :][:400]
        row = np.arange(len(entry))
        evidence = Evidence(row, entry, row % 16, order[first * 16 :][:400], len(row), 11, 1.0)
        found = infer(catalog, evidence, replace(law, seed=77), starts, seeds=(77, 1, 2, 3, 21), likely=False)
        refuted += found.refuted
        assert found.believed and found.best is not None and found.best.explanation.law.seed == 21
    assert refuted > 30
