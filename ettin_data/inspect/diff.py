"""Comparing two runs: by root, then down the tree to the first source, split and sample that differ.

Only digests are compared, and only what differs is opened: two equal runs of any size are told by two small files. One
side may be nothing but the `digests.json` of another laboratory; the comparison then ends at the splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data.base.errors import OrderError, ShardError
from ettin_data.inspect.decoding import words_of
from ettin_data.order.data import run_of
from ettin_data.order.loader_edits import vocabulary_of
from ettin_data.storage import digests as tree
from ettin_data.storage import ledger as ledgers
from ettin_data.storage import split as markers
from ettin_data.storage.digests import Digests
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import DIGESTS, MARKER, ORDER, PARTS, TRAIN, VALIDATION, Phase, open_phase
from ettin_data.storage.split import sample_leaves
from ettin_data.tokenizer.vocabulary import AnyTokens

_AROUND = 12  # tokens shown before and after the first that differs


@dataclass(frozen=True)
class Side:
    """One of the two: its tree, and its folder where the data are at hand."""

    path: Path
    digests: Digests
    folder: Path | None

    @classmethod
    def open(cls, path: Path) -> Side:
        """A phase folder, finished or not, or a `digests.json`. Raises `ShardError` for anything else."""
        path = Path(path)
        if path.is_file():
            there = (path.parent / TRAIN).is_dir()
            return cls(path, tree.read_digests(path), path.parent if there else None)
        phase = open_phase(path)
        if phase.finished:
            if not phase.digests_json.is_file():
                raise ShardError(f"{DIGESTS} is missing", where=path, remedy="run the same build again: it writes it")
            return cls(path, tree.read_digests(phase.digests_json), path)
        parts = {
            part: {
                name.partition("/")[2]: markers.read_marker(path / name)
                for name in phase.splits(part)
                if (path / name / MARKER).exists()
            }
            for part in PARTS
        }
        return cls(path, tree.grow(phase.name, parts, _order_digest(phase), {}), path)


@dataclass(frozen=True)
class ShownSample:
    """A sample as shown beside its counterpart.

    Attributes:
        row: in its split.
        id: of its document.
        tokens: how many.
        around: ids around the first that differs.
        text: of those, where the tokenizer is at hand.
    """

    row: int
    id: str
    tokens: int
    around: list[int]
    text: str | None


@dataclass(frozen=True)
class Difference:
    """One place where the trees differ.

    Attributes:
        path: `train`, `train/<source>`, `train/<source>/<folder>`, `order`.
        kind: "only_a", "only_b" or "differs".
        detail: a sentence with the numbers.
        token: in the first sample that differs, the first token that does.
        a, b: that sample on either side.
    """

    path: str
    kind: str
    detail: str
    token: int | None = None
    a: ShownSample | None = None
    b: ShownSample | None = None


@dataclass
class Comparison:
    """The result; `equal` is all that most people want to know."""

    a: Side
    b: Side
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return self.a.digests.root == self.b.digests.root

    def to_json(self) -> dict[str, Any]:
        return {
            "a": {"path": str(self.a.path), "root": self.a.digests.root},
            "b": {"path": str(self.b.path), "root": self.b.digests.root},
            "equal": self.equal,
            "differences": [asdict(difference) for difference in self.differences],
        }


def compare(a: Path, b: Path, *, samples: int = 1) -> Comparison:
    """Compare two phases.

    Args:
        a, b: phase folders or `digests.json` files.
        samples: in how many of the differing splits the first differing sample is looked for and decoded.
    """
    result = Comparison(Side.open(a), Side.open(b))
    if result.equal:
        return result
    for part in (TRAIN, VALIDATION):
        if result.a.digests.roots()[part] != result.b.digests.roots()[part]:
            result.differences += _compare_part(result, part)
    left = samples
    for number, difference in enumerate(result.differences):
        if left and difference.kind == "differs" and difference.path.count("/") == 2:
            result.differences[number] = _first_sample(result, difference)
            left -= 1
    if result.a.digests.order != result.b.digests.order:
        result.differences.append(_compare_order(result))
    return result


def _compare_part(result: Comparison, part: str) -> Iterator[Difference]:
    ours, theirs = result.a.digests.parts[part], result.b.digests.parts[part]
    our_roots, their_roots = result.a.digests.source_roots(part), result.b.digests.source_roots(part)
    changed = sorted(s for s in ours.keys() | theirs.keys() if our_roots.get(s) != their_roots.get(s))
    yield Difference(part, "differs", f"{len(changed)} of {len(ours.keys() | theirs.keys())} sources differ")
    for source in changed:
        yield from _compare_splits(f"{part}/{source}", ours.get(source, {}), theirs.get(source, {}))


def _compare_splits(
    path: str, ours: Mapping[str, tree.Entry], theirs: Mapping[str, tree.Entry]
) -> Iterator[Difference]:
    counts = [sum(entry.samples for entry in splits.values()) for splits in (ours, theirs)]
    numbers = f"{counts[0]:,} samples in {len(ours):,} splits, {counts[1]:,} in {len(theirs):,}"
    if not ours or not theirs:
        yield Difference(path, "only_a" if ours else "only_b", numbers)
        return
    yield Difference(path, "differs", numbers)
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            there = one or other
            assert there is not None
            yield Difference(f"{path}/{name}", "only_a" if one else "only_b", f"{there.samples:,} samples")
        elif one.root != other.root:
            yield Difference(f"{path}/{name}", "differs", f"{one.samples:,} samples, {other.samples:,}")


def _first_sample(result: Comparison, difference: Difference) -> Difference:
    """Open a split on both sides and find where it first differs."""
    if result.a.folder is None or result.b.folder is None:
        return difference
    folders = (result.a.folder / difference.path, result.b.folder / difference.path)
    leaves = [sample_leaves(ledgers.read_ledger(folder)) for folder in folders]
    shared = min(map(len, leaves))
    differ = (leaves[0][:shared] != leaves[1][:shared]).any(axis=1)
    row = int(np.argmax(differ)) if differ.any() else shared
    counted = [Counter(map(tuple, side.tolist())) for side in leaves]
    only = [sum((counted[i] - counted[1 - i]).values()) for i in range(2)]
    readers = [MdsReader(folder) for folder in folders]
    counts = [min(len(reader), len(side)) for reader, side in zip(readers, leaves, strict=True)]
    read = [reader.sample(row) if row < count else None for reader, count in zip(readers, counts, strict=True)]
    token = 0
    if read[0] is not None and read[1] is not None:
        one, other = read[0][1], read[1][1]
        length = min(len(one), len(other))
        unequal = one[:length] != other[:length]
        token = int(np.argmax(unequal)) if unequal.any() else length
    shown = [
        None if sample is None else _shown(side, row, *sample, token)
        for side, sample in zip((result.a, result.b), read, strict=True)
    ]
    detail = (
        f"{len(leaves[0]):,} samples, {len(leaves[1]):,}: {only[0]:,} only in a, {only[1]:,} only in b; "
        f"the first that differs is sample {row}, from token {token}"
    )
    return Difference(difference.path, "differs", detail, token, *shown)


def _shown(side: Side, row: int, name: str, ids: AnyTokens, token: int) -> ShownSample:
    around = ids[max(token - _AROUND, 0) : token + _AROUND]
    assert side.folder is not None
    text = None
    if run := run_of(side.folder):
        words = words_of(vocabulary_of(run))
        # of another laboratory's run, with a tokenizer that is not here, the ids must do
        text = None if words.problem else words.decode(around)
    return ShownSample(row, name, len(ids), around.tolist(), text)


def _order_digest(phase: Phase) -> str:
    from ettin_data.order.index import OrderIndex

    try:
        return OrderIndex.open(phase.order).info.digest
    except OrderError:
        return ""


def _compare_order(result: Comparison) -> Difference:
    """Compare the laws, and name the first step that differs."""
    from ettin_data.order.index import OrderIndex, OrderLaw

    detail = f"{result.a.digests.order or 'none'}, {result.b.digests.order or 'none'}"
    if result.a.folder is None or result.b.folder is None:
        return Difference(ORDER, "differs", detail)
    try:
        one, other = (OrderIndex.open(side / ORDER) for side in (result.a.folder, result.b.folder))
    except (OrderError, ShardError) as error:
        return Difference(ORDER, "differs", f"{detail}: {error.what}")
    laws = [{each.name: getattr(index.law, each.name) for each in fields(OrderLaw)} for index in (one, other)]
    changed = [f"{name} {laws[0][name]}, {laws[1][name]}" for name in laws[0] if laws[0][name] != laws[1][name]]
    batch = min(one.batch, other.batch)
    for step in range(min(one.steps, other.steps)):
        unequal = one.step(step)[:batch] != other.step(step)[:batch]
        if unequal.any() or one.batch != other.batch:
            at = int(np.argmax(unequal)) if unequal.any() else batch
            changed.append(f"the first difference is in step {step + 1}, row {at}")
            break
    return Difference(ORDER, "differs", "; ".join(changed) or f"{one.steps:,} steps, {other.steps:,}")
