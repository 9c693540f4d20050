"""What a build says of itself when it is done: `run.json`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Mapping
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
    seconds: float,
) -> RunRecord:
    """What `run.json` says of a phase: totals, each source under the names of `plan.json`, digests, versions."""
    rows = {}
    excluded = counts_by_reason(left_out, pools)
    roots = contents.source_roots(TRAIN)
    lost = {key: bad_input.lost([split.marker for split in splits]) for key, splits in pools.items()}
    for key, source in plan.sources.items():
        mix, splits = mixes[key], pools[key]
        mine = [marker for marker in train.values() if marker.source == key]
        held = [marker for marker in validation.values() if marker.source == key]
        tallies = [split.marker.tally for split in splits]
        first_pass = [marker for name, marker in train.items() if name.split("/")[0] == key]
        copies = sorted({name.split("/")[0] for name, marker in train.items() if marker.source == key})
        pool_documents = sum(tally["documents"] for tally in tallies)
        in_train, in_validation = (sum(map(documents, part)) for part in (first_pass or mine, held))
        rows[key] = BuiltSource(
            category=source.source.category,
            target_tokens=source.target_tokens,
            tokens=mix.train_tokens,
            documents=in_train,
            samples=sum(marker.samples for marker in mine),
            passes=round(mix.passes, 4),
            files=source.files,
            splits=len(splits),
            validation_tokens=mix.validation_tokens,
            validation_documents=in_validation,
            pool_tokens=mix.pool_tokens,
            pool_samples=sum(split.marker.samples for split in splits),
            records=sum(tally["records"] for tally in tallies),
            rejected=_add(tally["rejected"] for tally in tallies),
            filtered=_add(tally["filtered"] for tally in tallies),
            left_out=excluded[key],
            not_taken=_not_taken(pool_documents - in_train - in_validation, sum(excluded[key].values()), mix),
            damaged_files=_add(tally["damaged"] for tally in tallies),
            lost_records=lost[key].records,
            lost_files=lost[key].lines(),
            noted=_add(tally["noted"] for tally in tallies),
            tokens_in=sum(tally["tokens_in"] for tally in tallies),
            skipped_tokens=_add(tally["skipped"] for tally in tallies),
            steps=added(tally["steps"] for tally in tallies),
            checked_documents=sum(tally["checked_documents"] for tally in tallies),
            backends=dict(Counter(tally["backend"] for tally in tallies)),
            fallbacks=[tally["fallback"] for tally in tallies if tally["fallback"]],
            roots={copy: roots[copy] for copy in copies},
        )
    return RunRecord(
        phase=resolved.recipe.phase,
        root=contents.root,
        roots=contents.roots(),
        order=order,
        totals=totals(rows, "tokens", "documents", "samples", "validation_tokens"),
        sources=rows,
        tokenizer=resolved.tokenizer.describe(),
        vocabulary=resolved.tokenizer.vocabulary.to_json(),
        recipe=redact_all(resolved.recipe.model_dump(mode="json")),
        layout={"columns": resolved.layout.columns, "length": resolved.recipe.length},
        executor={"kind": executor.kind, "workers": executor.workers} if executor else {"kind": "in process"},
        versions=_versions(),
        digests=digests,
        seconds=seconds,
    )


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
