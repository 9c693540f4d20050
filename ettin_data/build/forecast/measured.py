"""What a pilot has measured, and where it is kept: in the user's cache, under everything that decides it.

A plan and the end of a build look there for the same sources under the same options; nothing in a run folder knows of
it, so that looking at a plan changes no run, and no measurement can change what is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from ettin_data.base import sealed_json
from ettin_data.base.errors import EttinError
from ettin_data.base.redact import redact
from ettin_data.base.shapes import Number, Shape, Word
from ettin_data.build.plan import SourcePlan
from ettin_data.build.prepare import Resolved
from ettin_data.tokenizer.files import cache_folder

FORMAT = 3
"""Raised when a measurement changes its meaning: those of before are then made again."""

Seconds = Annotated[float, Field(ge=0, lt=1e12)]


class MeasuredFile(Shape):
    """A file that the pilot has looked into, as `sampling.LookedInto`."""

    bytes: Number
    records: Number
    rejected: Number
    text_bytes: Number


class MeasuredSource(Shape):
    """What a pilot has measured of a source.

    Attributes:
        asked: for what, as `0.1%` or `500`.
        at: when, in seconds since 1970.
        files: that it has looked into.
        file, text_bytes, tokens: of each document of the sample: number of its file, its size, and its tokens, 0 where
            a filter has dropped it.
        filtered: documents of the sample that filters have dropped, by reason.
        tokens_in, tokens_out, samples: of the sample before and after packing.
        bytes_out: of the sample in shards with their ledger; `bytes_split` is what a split has besides.
        read_cpu_s, read_s: that reading the files took, on one core.
        make_cpu_s, make_s: that filters, tokenizer, packing and writing took for the sample, each time.
        memory: most bytes that the process had.
    """

    format: Number = FORMAT
    asked: Word
    at: Seconds
    files: list[MeasuredFile]
    file: list[Number]
    text_bytes: list[Number]
    tokens: list[Number]
    filtered: dict[str, Number]
    tokens_in: Number
    tokens_out: Number
    samples: Number
    bytes_out: Number
    bytes_split: Number
    read_cpu_s: Seconds
    read_s: Seconds
    make_cpu_s: list[Seconds]
    make_s: list[Seconds]
    memory: Number


class MeasuredBuild(Shape):
    """What a build takes besides its text, from tiny ones in a temporary folder.

    Attributes:
        base_s: without any split, in a process that has just started: sources listed, tokenizer loaded, workers
            started, each with what its first split needs, records made.
        split_s, folder_s: for each split of the pool, and for each folder of train and validation, on one core that has
            made some before.
        mix_s: for each split of the pool, to decide what is taken.
        base_bytes: in files of the phase beside its splits.
    """

    format: Number = FORMAT
    at: Seconds
    base_s: Seconds
    split_s: Seconds
    folder_s: Seconds
    mix_s: Seconds
    base_bytes: Number


Measured = TypeVar("Measured", MeasuredSource, MeasuredBuild)


def of_source(resolved: Resolved, source: SourcePlan) -> dict[str, Any]:
    """Everything that decides what a pilot of a source measures: its files and what becomes of them."""
    made_from = resolved.job(source, source.listed[0]).made_from()
    listing = hashlib.sha256()
    for split in source.listed:
        for file in split.files:
            listing.update(json.dumps([split.name, file.describe()]).encode())
    del made_from["split"], made_from["inputs"]
    return {"root": redact(source.source.root), "listing": listing.hexdigest(), **made_from}


def of_build(resolved: Resolved) -> dict[str, Any]:
    """What decides the rest of a build, as far as it is measured."""
    recipe = resolved.recipe
    return {
        "tokenizer": resolved.tokenizer.digest,
        "pack": recipe.pack.made_from(),
        "length": recipe.length,
        "layout": resolved.layout.columns,
    }


def kept(kind: type[Measured], of: Mapping[str, Any]) -> Measured | None:
    """What the cache has of a measurement, if it is whole and of this format."""
    try:
        body = sealed_json.read(_place(kind, of))
        found = kind.model_validate(body["measured"])
    except (OSError, EttinError, ValidationError, KeyError):
        return None
    return found if found.format == FORMAT else None


def keep(measured: MeasuredSource | MeasuredBuild, of: Mapping[str, Any]) -> str | None:
    """Put a measurement into the cache; returns why that was not possible, which only costs the next plan its time."""
    try:
        path = _place(type(measured), of)
        path.parent.mkdir(parents=True, exist_ok=True)
        sealed_json.write(path, {"measured": measured.model_dump(mode="json")})
    except (OSError, EttinError) as error:
        return f"the pilot cannot be kept: {error}"
    return None


def all_kept(resolved: Resolved) -> dict[str, MeasuredSource]:
    """Source -> its pilot, of those that have one."""
    found = {key: kept(MeasuredSource, of_source(resolved, plan)) for key, plan in resolved.plan.sources.items()}
    return {key: each for key, each in found.items() if each is not None}


def _place(kind: type[MeasuredSource] | type[MeasuredBuild], of: Mapping[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return cache_folder() / "pilots" / f"{'source' if kind is MeasuredSource else 'build'}-{name}.json"
