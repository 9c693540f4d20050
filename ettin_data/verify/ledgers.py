"""The ledger against itself and the marker: the conservation law document by document, and where samples come from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from ettin_data.storage.ledger import Ledger, Table
from ettin_data.storage.split import Marker, sample_leaves
from ettin_data.verify.model import Rules


def ledger_problems(
    ledger: Ledger, marker: Marker | None, rules: Rules, *, from_pool: bool
) -> Iterator[tuple[str, str]]:
    """(reason, detail) of what does not hold.

    Args:
        ledger: of one split.
        marker: of the same; None if it cannot be used.
        rules: of the phase.
        from_pool: every document is whole in a pool; in `train/` and `validation/` samples may be left out.
    """
    documents, samples, spans = ledger.documents, ledger.samples, _spans(ledger)
    yield from _document_problems(documents, marker)
    yield from _order_problems(samples)
    yield from _span_problems(documents, spans, rules, from_pool)
    if marker is not None:
        yield from _marker_problems(ledger, marker, spans, from_pool)


def _spans(ledger: Ledger) -> Table:
    """Every span of a document in a sample: the samples' own, then those of `segments`."""
    names = ("document", "start", "length")
    if ledger.segments is None:
        return {name: ledger.samples[name].astype(np.int64) for name in names}
    return {name: np.concatenate([ledger.samples[name], ledger.segments[name]]).astype(np.int64) for name in names}


def _document_problems(documents: Table, marker: Marker | None) -> Iterator[tuple[str, str]]:
    """Documents stand in the order of their records upstream, each record once, and from files of the split."""
    file, position = documents["file"].astype(np.int64), documents["position"]
    back = np.flatnonzero((np.diff(file) < 0) | ((np.diff(file) == 0) & (np.diff(position) <= 0)))
    for row in back[:5].tolist():
        yield "wrong_order", f"document {row + 1} of the ledger should stand before document {row}"
    if marker is not None and len(file) and not 0 <= file.min() <= file.max() < len(marker.inputs):
        yield "broken_law", f"documents name files outside of the {len(marker.inputs):,} of the split"


def _order_problems(samples: Table) -> Iterator[tuple[str, str]]:
    """Samples stand in the order of their first document, and of their start in it."""
    document, start = samples["document"], samples["start"]
    back = np.flatnonzero(
        (np.diff(document) < 0) | ((np.diff(document) == 0) & (np.diff(start) <= 0))  # of a sample to the next
    )
    for row in back[:5].tolist():
        yield "wrong_order", f"sample {row + 1} of the ledger should stand before sample {row}"


def _span_problems(documents: Table, spans: Table, rules: Rules, from_pool: bool) -> Iterator[tuple[str, str]]:
    """No token twice; in a pool none missing but a tail that the strategy may drop (ARCHITECTURE 5.3)."""
    if from_pool:
        for row in np.setdiff1d(np.arange(len(documents["key"])), spans["document"])[:5].tolist():
            yield "document_lost", f"document {row} of the ledger is in no sample"
    order = np.lexsort((spans["start"], spans["document"]))
    document, start = spans["document"][order], spans["start"][order]
    end = start + spans["length"][order]
    first = np.ones(len(document), bool)
    first[1:] = document[1:] != document[:-1]
    before = np.where(first, 0, np.concatenate([[0], end[:-1]]))
    for row in np.flatnonzero(start < before)[:5].tolist():
        yield "token_twice", f"tokens {start[row]:,} to {before[row]:,} of document {document[row]} are in two samples"
    for row in np.flatnonzero(end > documents["tokens"][document])[:5].tolist():
        yield "token_too_many", f"a sample ends at token {end[row]:,} of document {document[row]}, beyond its end"
    if not from_pool:
        return
    for row in np.flatnonzero(start > before)[:5].tolist():
        yield "token_lost", f"tokens {before[row]:,} to {start[row]:,} of document {document[row]} are in no sample"
    last = np.ones(len(document), bool)
    last[:-1] = first[1:]
    left = documents["tokens"].copy()
    left[document[last]] -= end[last]
    for row in np.flatnonzero(left > rules.longest_loss)[:5].tolist():
        yield "token_lost", f"the last {left[row]:,} tokens of document {row} are in no sample"


def _marker_problems(ledger: Ledger, marker: Marker, spans: Table, from_pool: bool) -> Iterator[tuple[str, str]]:
    tally, samples = marker.tally, ledger.samples
    counts = [
        ("samples", len(samples["tokens"]), marker.samples),
        ("tokens", int(samples["tokens"].sum()), marker.tokens),
        ("documents", len(ledger.documents["key"]), tally["documents"]),
    ]
    if from_pool:
        text, tokens = int(spans["length"].sum()), int(ledger.documents["tokens"].sum())
        counts += [
            ("text tokens", text, tally["text_tokens"]),
            ("tokens of documents", tokens, tally["tokens_in"]),
            ("skipped tokens", tokens - text, sum(tally["skipped"].values())),
        ]
    for what, here, said in counts:
        if here != said:
            yield "broken_law", f"{here:,} {what} in the ledger, {said:,} in the marker"


def missing_in_pool(ledger: Ledger, pool: Ledger) -> list[int]:
    """Rows of a split of `train/` or `validation/` that the pool does not have, in the pool's order."""
    positions: dict[tuple[int, ...], list[int]] = {}  # of the same record twice in a file there are two
    for row, place in enumerate(_places(pool)):
        positions.setdefault(place, []).append(row)
    missing, last = [], -1
    for row, place in enumerate(_places(ledger)):
        there = positions.get(place, [])
        at = bisect_right(there, last)
        if at == len(there):
            missing.append(row)
        else:
            last = there[at]
    return missing


def _places(ledger: Ledger) -> list[tuple[int, ...]]:
    """What identifies each sample: its leaf, and where it begins in its document."""
    if len(ledger.samples["start"]) == 0:
        return []
    leaves = sample_leaves(ledger)
    columns = np.column_stack([leaves, ledger.samples["start"].astype(np.uint64)])
    return [tuple(row) for row in columns.tolist()]
