"""What a build says of itself when it is done: `run.json`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ettin_data.base.redact import redact_all
from ettin_data.base.version import VERSION
from ettin_data.build import bad_input
from ettin_data.build.assemble import Part
from ettin_data.build.attributes import LeftOut, counts_by_reason
from ettin_data.build.mix import SourceMix
from ettin_data.build.plan import Plan
from ettin_data.build.pool import Pools
from ettin_data.build.prepare import Resolved
from ettin_data.executor import ExecutorOptions
from ettin_data.stages.counts import added
from ettin_data.storage.digests import Digests
from ettin_data.storage.phase import TRAIN
from ettin_data.storage.records import BuiltSource, OrderRecord, RunRecord, totals
from ettin_data.storage.split import Marker

SUMMED = ("tokens", "documents", "samples", "validation_tokens")
"""What `totals` has the sums of, besides what it always has."""


def summary(
    resolved: Resolved,
    plan: Plan,
    pools: Pools,
    left_out: LeftOut,
    mixes: Mapping[str, SourceMix],
    train: Part,
    validation: Part,
    order: OrderRecord,
    contents: Digests,
    executor: ExecutorOptions | None,
    digests: str,
    planned: str,
) -> RunRecord:
    """What `run.json` says of a phase: totals, each source under the names of `plan.json`, digests, versions.

    How long it took is said when all else is on the disk.
    """
    rows = {}
    excluded = counts_by_reason(left_out, pools)
    roots = contents.source_roots(TRAIN)
    trained, held_out = _by_source(train), _by_source(validation)
    for key, source in plan.sources.items():
        mix, splits = mixes[key], pools[key]
        pool = [split.marker for split in splits]
        mine = trained.get(key, {})
        first_pass = [marker for name, marker in mine.items() if name.split("/")[0] == key]
        copies = sorted({name.split("/")[0] for name in mine})
        sums = counted(pool, list(mine.values()), first_pass, list(held_out.get(key, {}).values()))
        in_no_part = sum(map(documents, pool)) - sums["documents"] - sums["validation_documents"]
        rows[key] = BuiltSource(
            category=source.source.category,
            target_tokens=source.target_tokens,
            passes=round(mix.passes, 4),
            files=source.files,
            pool_tokens=mix.pool_tokens,
            left_out=excluded[key],
            not_taken=_not_taken(in_no_part, sum(excluded[key].values()), mix),
            roots={copy: roots[copy] for copy in copies},
            **sums,
        )
    return RunRecord(
        phase=resolved.recipe.phase,
        root=contents.root,
        roots=contents.roots(),
        order=order,
        totals=totals(rows, *SUMMED),
        sources=rows,
        tokenizer=resolved.tokenizer.describe(),
        vocabulary=resolved.tokenizer.vocabulary.to_json(),
        recipe=redact_all(resolved.recipe.model_dump(mode="json")),
        layout={"columns": resolved.layout.columns, "length": resolved.recipe.length},
        executor={"kind": executor.kind, "workers": executor.workers} if executor else {"kind": "in process"},
        versions=_versions(),
        digests=digests,
        plan=planned,
        seconds=0.0,
    )


def _by_source(part: Part) -> dict[str, Part]:
    """Source -> what is of it in a part, all its passes."""
    found: dict[str, Part] = {}
    for name, marker in part.items():
        found.setdefault(marker.source, {})[name] = marker
    return found


def counted(
    pool: Sequence[Marker], train: Sequence[Marker], first_pass: Sequence[Marker], validation: Sequence[Marker]
) -> dict[str, Any]:
    """What `run.json` says of a source and its markers decide: those of the pool and of each part, in their order."""
    tallies, lost = [marker.tally for marker in pool], bad_input.lost(pool)
    return {
        "tokens": sum(marker.tokens for marker in train),
        "documents": sum(map(documents, first_pass or train)),
        "samples": sum(marker.samples for marker in train),
        "splits": len(pool),
        "validation_tokens": sum(marker.tokens for marker in validation),
        "validation_documents": sum(map(documents, validation)),
        "pool_samples": sum(marker.samples for marker in pool),
        "records": sum(tally["records"] for tally in tallies),
        "rejected": _add(tally["rejected"] for tally in tallies),
        "filtered": _add(tally["filtered"] for tally in tallies),
        "damaged_files": _add(tally["damaged"] for tally in tallies),
        "lost_records": lost.records,
        "lost_files": lost.lines(),
        "noted": _add(tally["noted"] for tally in tallies),
        "tokens_in": sum(tally["tokens_in"] for tally in tallies),
        "skipped_tokens": _add(tally["skipped"] for tally in tallies),
        "steps": added(tally["steps"] for tally in tallies),
        "checked_documents": sum(tally["checked_documents"] for tally in tallies),
        "backends": dict(Counter(tally["backend"] for tally in tallies)),
        "fallbacks": [tally["fallback"] for tally in tallies if tally["fallback"]],
    }


def documents(marker: Marker) -> int:
    """Documents of which a split holds at least a part."""
    return int(marker.tally["documents"])


def _not_taken(in_no_part: int, left_out: int, mix: SourceMix) -> dict[str, int]:
    """Documents that are in no part by reason, without those that attributes leave out."""
    counts = {"beside_left_out": mix.without_samples - left_out, "beside_validation": mix.beside_validation}
    counts["over_target"] = in_no_part - left_out - sum(counts.values())
    return {reason: number for reason, number in counts.items() if number}


def _add(counters: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return dict(sorted(total.items()))


def _versions() -> dict[str, str]:
    packages = ("datatrove", "fastokens", "mosaicml-streaming", "numpy", "pyarrow", "ray", "tokenizers")
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # fastokens, where there is no build of it
            found[name] = importlib.metadata.version(name)
    return {"ettin-data": VERSION, "python": platform.python_version(), **found}
