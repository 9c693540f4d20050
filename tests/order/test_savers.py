"""What ranks and savers of the reference leave: one rank, another one in each file, a padding sampler; another N."""

from __future__ import annotations

import numpy as np
import pytest
from reference import sampler

from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order
from ettin_data.storage.mds import MdsReader, read_index, write_index

SAMPLES = 1003


def check(published, **settings) -> Verification:
    found = verify_order(Request(str(published.data), str(published.out), batch=16, **settings))
    assert to_json(found)["verdict"] == found.verdict and told(found)
    return found


def told(found: Verification) -> str:
    return "\n".join(to_lines(found))


def names(found: Verification) -> list[str]:
    return [deviation.name for deviation in found.deviations]


def lay_out(published, orders: list[np.ndarray], size: int, a_file: int = 10) -> None:
    """Steps of `size` rows, ten a file, file i with what rank `i % len(orders)` reads."""
    reader, files = MdsReader(published.data), published.files()
    rows = []
    for k in range(len(orders[0]) // size):
        order = orders[(k // a_file) % len(orders)]
        file = files[min(k // a_file, len(files) - 1)]
        rows += [(file, k + 1, reader.tokens(int(p)).tolist()) for p in order[k * size : (k + 1) * size]]
    published.rewrite(rows)


@pytest.mark.parametrize(("world", "rank"), [(2, 0), (2, 1), (8, 5)])
@pytest.mark.parametrize("reordered", [False, True])
def test_one_rank_was_saved(published, world: int, rank: int, reordered: bool) -> None:
    lay_out(published, [sampler(SAMPLES, 21, world, rank)], 16 // world)
    if reordered:
        published.shuffle_shards()
    found = check(published)
    assert found.verdict == "explained" and f"only rank {rank} of {world} was saved" in told(found), told(found)
    assert ("another_shard_order" in names(found)) == reordered


@pytest.mark.parametrize("world", [2, 4])
def test_another_rank_in_each_file(published, world: int) -> None:
    """The saver writes the same name from every rank: the last one wins."""
    lay_out(published, [sampler(SAMPLES, 21, world, (r * 3 + 1) % world) for r in range(world)], 16 // world)
    found = check(published)
    assert found.verdict == "explained" and f"files are of different ranks of {world}" in told(found), told(found)
    assert all(r.agrees for r in found.checked)


@pytest.mark.parametrize(("samples", "world"), [(1003, 4), (1003, 8), (1007, 8), (1007, 16), (1001, 2)])
def test_a_sampler_that_pads(make, samples: int, world: int) -> None:
    published = make(samples, 16)
    padded = np.concatenate([sampler(samples, 21, world, r, drop_last=False)[:, None] for r in range(world)], axis=1)
    steps = padded.ravel()
    reader, files = MdsReader(published.data), published.files()
    published.rewrite(
        [
            (files[min(i // 160, len(files) - 1)], i // 16 + 1, reader.tokens(int(p)).tolist())
            for i, p in enumerate(steps)
        ]
    )
    found = check(published)
    assert found.verdict == "explained" and names(found) == ["drop_last_off"], told(found)


@pytest.mark.parametrize("lacking", [10, 4])
def test_the_trainer_had_a_shard_less(published, lacking: int) -> None:
    """Its number is found, and told when it is given; where the shard stood does not matter."""
    shards = read_index(published.data)
    samples = SAMPLES - shards[lacking].samples
    write_index(published.data, [s for i, s in enumerate(shards) if i != lacking])
    lay_out(published, [sampler(samples, 21, 1, 0)], 16)
    write_index(published.data, shards)
    for found in (check(published, seeds=(21, 22)), check(published, samples=samples)):
        assert found.verdict in ("agrees", "explained"), told(found)
        assert sum(r.matched for r in found.checked) == samples // 16 * 16
    assert ("another_number" in names(check(published, seeds=(21,)))) and "another_number" not in names(found)


def test_the_trainer_had_a_shard_more(published) -> None:
    shards = read_index(published.data)
    write_index(published.data, [s for i, s in enumerate(shards) if i != 3])
    found = check(published, seeds=(21, 22))
    assert found.verdict == "explained" and "another_number" in names(found), told(found)
    assert "another number of samples: 1,003, not 903" in told(found) and found.exit_status == 1


def test_a_number_that_is_no_shard_more_or_less(make) -> None:
    """All steps were published: they bound the number to one batch."""
    published = make(600, 8)
    lay_out(published, [sampler(593, 21, 1, 0)], 8)
    found = verify_order(Request(str(published.data), str(published.out), batch=8, seeds=(21,)))
    assert found.verdict == "explained" and "another number of samples: 593, not 600" in told(found), told(found)
