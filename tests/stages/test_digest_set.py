"""The set of digests behind `exact_duplicate`: exact, whatever has gone to its file."""

import gc
import pickle
import random

import pytest
from datatrove.data import Document

from ettin_data.stages.filters import digest_set
from ettin_data.stages.filters.digest_set import Seen
from ettin_data.stages.filters.exact_duplicate import ExactDuplicate

HALF = (1 << 64) - 1


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """100 in memory, merged 30 at a time: hundreds of digests go through everything that millions do."""
    monkeypatch.setattr(digest_set, "RECENT", 100)
    monkeypatch.setattr(digest_set, "_AT_ONCE", 30)


def digests(count, rng):
    """Digests of which a third came before, some with halves in common, the first and the last there are."""
    found = [0, 1, (1 << 128) - 1, HALF, HALF << 64]
    for number in range(count):
        digest, other = rng.getrandbits(128), rng.choice(found)
        kind = number % 6
        digest = {0: other, 1: other, 2: other ^ (digest & HALF), 3: other ^ (digest & ~HALF)}.get(kind, digest)
        found.append(digest)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_it_answers_as_a_set_does(seed):
    came, known = set(), Seen()
    asked = digests(3000, random.Random(seed))
    for digest in asked:
        assert known.add(digest) == (digest not in came)
        came.add(digest)
    assert len(known._recent) < 100 and len(known._recent) + int(known._starts[-1]) == len(came)
    assert not any(known.add(digest) for digest in asked)


def test_it_is_exact_where_the_bloom_filter_errs():
    rng = random.Random(0)
    known, held = Seen(), [7 << 112 | rng.getrandbits(112) for _ in range(100)]  # neighbours in one bucket
    assert all(map(known.add, held))
    known._bits[:] = b"\xff" * len(known._bits)
    held.sort(key=lambda digest: digest >> 64)
    file = b"".join(digest.to_bytes(16, "little") for digest in held)
    for begin in range(14, 16 * 99, 16):  # parts of two neighbours, which would be in that bucket as well
        across = int.from_bytes(file[begin : begin + 16], "little")
        assert known.add(across)
    assert not any(map(known.add, held))
    assert known.add(8 << 112)


def test_its_file_ends_with_it():
    known = Seen()
    for digest in range(100):
        known.add(digest + 1 << 100)
    file = known._file
    assert not file.closed
    del known
    gc.collect()
    assert file.closed


def test_the_filter_drops_what_came_before_in_its_split_only():
    step = pickle.loads(pickle.dumps(ExactDuplicate()))
    texts = [f"text {number % 350}" for number in range(1000)]
    for _ in range(2):
        kept = list(step.run(Document(text=text, id=str(i)) for i, text in enumerate(texts)))
        assert [document.id for document in kept] == [str(i) for i in range(350)]
