"""A complete `run.json` and `plan.json` for tests that need one and build nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ettin_data import recipe
from ettin_data.storage import records
from ettin_data.storage.phase import Phase
from ettin_data.storage.records import BuiltSource, OrderRecord, PlannedSource, PlanRecord, RunRecord
from ettin_data.tokenizer.vocabulary import MODERNBERT


def built_source(tokens: int, **changes: Any) -> BuiltSource:
    """A source with so many tokens in train, from which nothing was lost."""
    counts = dict.fromkeys(("documents", "samples", "files", "splits", "validation_documents", "records"), 1)
    nothing: dict[str, Any] = {
        name: {} for name in ("rejected", "filtered", "damaged_files", "noted", "skipped_tokens", "backends", "roots")
    }
    body: dict[str, Any] = {
        "category": "web", "target_tokens": tokens, "tokens": tokens, "passes": 1.0, "validation_tokens": 0,
        "pool_tokens": tokens, "pool_samples": 1, "tokens_in": tokens, "checked_documents": 0, "fallbacks": [],
        **counts, **nothing,
    }  # fmt: skip
    return BuiltSource(**{**body, **changes})


def pool_tally(samples: int = 0, tokens: int = 0) -> dict[str, Any]:
    """What the marker of a split of a pool counts, of which nothing was left out."""
    none = {name: {} for name in ("rejected", "filtered", "damaged", "noted", "skipped", "steps")}
    counts = dict.fromkeys(("records", "documents", "tokens_in", "text_tokens", "checked_documents"), 0)
    return {**none, **counts, "samples": samples, "tokens": tokens, "backend": "tokenizers", "fallback": None}


def run_record(tokens: Mapping[str, int], **changes: Any) -> RunRecord:
    """A run of sources with so many tokens in train; `length` changes the recipe, other names the record."""
    described = recipe.load_recipe("pretrain").model_dump(mode="json")
    described["length"] = changes.pop("length", described["length"])
    described["loader"]["max_seq_len"] = described["length"]
    rows = changes.pop("sources", None) or {name: built_source(held) for name, held in tokens.items()}
    body: dict[str, Any] = {
        "phase": "pretrain", "root": "0" * 64, "roots": {}, "sources": rows, "totals": records.totals(rows, "tokens"),
        "order": OrderRecord(law="ettin", seed=21, epoch=0, samples=1, batch=1, steps=1, digest="0" * 64),
        "tokenizer": {"sha256": MODERNBERT.digest, "vocab_size": MODERNBERT.size}, "vocabulary": MODERNBERT.to_json(),
        "recipe": described,
        "layout": {"columns": {}, "length": described["length"]}, "executor": {}, "versions": {},
        "digests": "0" * 64, "seconds": 0.0,
    }  # fmt: skip
    return RunRecord(**{**body, **changes})


def plan_record(run: RunRecord, split_files: Mapping[str, Any] | None = None) -> PlanRecord:
    """The plan of such a run."""
    rows = {
        key: PlannedSource(
            category=source.category,
            target_tokens=source.target_tokens,
            files=source.files,
            splits=source.splits,
            input_bytes=1,
            listed_files=source.files,
            expected_tokens=source.tokens,
            expected_passes=1.0,
            expected_bytes=2 * source.tokens,
        )
        for key, source in run.sources.items()
    }
    files = {key: {} for key in rows} if split_files is None else dict(split_files)
    return PlanRecord(phase=run.phase, recipe=run.recipe, totals=records.totals(rows), sources=rows, split_files=files)


def write_run(folder: Path, sources: Mapping[str, int], **changes: Any) -> RunRecord:
    """Write the `run.json` of a phase."""
    record = run_record(sources, phase=folder.name, **changes)
    records.write_record(Phase(folder, folder.name), record)
    return record
