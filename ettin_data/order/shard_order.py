"""Finds the shard order that a permutation referred to, when it is not that of the local `index.json`.

Under the right seed, a published row of step k is one of the B samples that the permutation puts there. If the row is
sample o of a local shard, each of these B positions p votes that the shard starts at p - o. Wrong positions scatter
their votes; the right start gets one from every row of the shard. So each shard is placed by itself, whatever the order
was.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ettin_data.order.catalog import Catalog
from ettin_data.order.explanation import Explanation, Finding
from ettin_data.order.law import OrderLaw
from ettin_data.order.probe import Evidence

_VOTERS = 64  # rows of a shard that vote; more do not make it surer


def shard_order_findings(
    catalog: Catalog, evidence: Evidence, law: OrderLaw, order: np.ndarray, starts: np.ndarray
) -> list[Finding]:
    """Findings for numbered steps and for numbers that start again in each folder."""
    law = replace(law, batch=catalog.common_rows()) if catalog.common_rows() <= law.samples else law
    found = evidence.found
    chance = found * min(1.0, 4 * law.batch / law.samples)
    base = 0 if catalog.step.min() == 0 else 1
    findings = []
    for numbering, step in (("global", catalog.step[evidence.entry] - base), ("restart", evidence.entry)):
        places, explained = _place_shards(evidence, step, law, order, starts)
        places = _fill_gaps(places, np.diff(starts))
        explanation = Explanation(law, base=base, numbering=numbering, starts=tuple(places.tolist()))  # type: ignore[arg-type]
        findings.append(Finding(explanation, explained, found, chance))
    return findings


def _place_shards(
    evidence: Evidence, step: np.ndarray, law: OrderLaw, order: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, int]:
    """The start of each shard (-1 unknown) and the number of rows that agree with it."""
    places = np.full(len(starts) - 1, -1, np.int64)
    inside = np.flatnonzero((step >= 0) & (step < law.steps))
    shard = np.searchsorted(starts, evidence.position[inside], side="right") - 1
    explained = 0
    for number in np.unique(shard).tolist():
        voters = inside[shard == number]
        first = voters[:_VOTERS]
        offsets = evidence.position[first] - starts[number]
        slots = step[first, None] * law.batch + np.arange(law.batch)
        candidates = order[slots].astype(np.int64) - offsets[:, None]
        size = int(starts[number + 1] - starts[number])
        valid = candidates[(candidates >= 0) & (candidates <= law.samples - size)]
        values, votes = np.unique(valid, return_counts=True)
        if len(votes) == 0 or votes.max() < 2 or (votes == votes.max()).sum() > 1:
            continue
        places[number] = values[votes.argmax()]
        explained += round(votes.max() / len(first) * len(np.unique(evidence.row[voters])))
    return places, explained


def _fill_gaps(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Take back shards that overlap others, and put a shard of unknown place where only it fits."""
    places = places.copy()
    order = np.flatnonzero(places >= 0)
    order = order[np.argsort(places[order], kind="stable")]
    overlap = np.flatnonzero(places[order][1:] < (places[order] + sizes[order])[:-1])
    places[order[overlap]] = places[order[overlap + 1]] = -1

    known = np.flatnonzero(places >= 0)
    known = known[np.argsort(places[known])]
    begins = np.concatenate([[0], places[known] + sizes[known]])
    ends = np.concatenate([places[known], [sizes.sum()]])
    unknown = np.flatnonzero(places < 0)
    gaps = [(int(a), int(b - a)) for a, b in zip(begins, ends, strict=True) if b > a]
    for begin, size in gaps:
        fits = unknown[sizes[unknown] == size]
        if len(fits) == 1 and sum(gap == size for _, gap in gaps) == 1:
            places[fits[0]] = begin
    return places
