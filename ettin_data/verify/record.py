"""What `run.json` says, and the card beside it, against what they were made from: markers, plan, digests and order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from ettin_data.base import files
from ettin_data.base.errors import EttinError
from ettin_data.base.shapes import FileDigest
from ettin_data.build.card import standing_in
from ettin_data.build.summary import SUMMED, counted
from ettin_data.order.index import OrderIndex
from ettin_data.storage.digests import Digests
from ettin_data.storage.mds import read_index
from ettin_data.storage.phase import CARD, PARTS, POOLS, RUN, TRAIN, VALIDATION, Phase
from ettin_data.storage.records import BuiltSource, OrderRecord, PlanRecord, RunRecord, totals
from ettin_data.storage.split import Marker
from ettin_data.tokenizer.files import resolve, tokenizer_text
from ettin_data.tokenizer.vocabulary import MODERNBERT, Frame, Vocabulary, read_vocabulary
from ettin_data.verify.model import Finding

Markers = Mapping[str, Marker]
"""`<part>/<source or copy>/<folder>` -> marker, of the splits that can be trusted."""


def check_record(
    phase: Phase, run: RunRecord, plan: PlanRecord | None, digests: Digests, markers: Markers
) -> Iterator[Finding]:
    """What a run says of itself that is not so.

    Args:
        plan: of the same recipe; None if there is none that can be trusted.
        markers: of all splits of the run.
    """
    for detail in _differences(_derived(phase, run, digests), run):
        yield Finding(RUN, "wrong_record", detail)
    copies, roots = {part: digests.copies(part) for part in PARTS}, digests.source_roots(TRAIN)
    for key, source in run.sources.items():
        mine = {
            part: [f"{part}/{copy}/{folder}" for copy in found.get(key, ()) for folder in digests.parts[part][copy]]
            for part, found in copies.items()
        }
        if any(name not in markers for each in mine.values() for name in each):
            continue  # what is missing is found elsewhere
        pools, train, held_out = ([markers[name] for name in mine[part]] for part in (POOLS, TRAIN, VALIDATION))
        first = [markers[name] for name in mine[TRAIN] if name.split("/")[1] == key]
        said = counted(pools, train, first, held_out)
        for name in ("tokens", "documents", "validation_documents"):  # which `between` compares, with what is lost
            del said[name]
        said["roots"] = {copy: roots[copy] for copy in copies[TRAIN].get(key, ())}
        if not source.left_out:
            said["pool_tokens"] = sum(marker.tokens for marker in pools)
        planned = plan.sources.get(key) if plan is not None else None
        if planned is not None:
            said |= {name: getattr(planned, name) for name in ("category", "target_tokens", "files", "splits")}
        for detail in _differences(said, source):
            yield Finding(RUN, "wrong_sum", f"source {key}: {detail}")
    if run.vocabulary is not None and (problem := _vocabulary_problem(run)):
        yield Finding(RUN, "wrong_record", problem)
    if run.card is not None and (problem := _card_problem(phase, run.phase, run.card)):
        yield Finding(CARD, "wrong_card", problem)


def _differences(derived: Mapping[str, Any], record: RunRecord | BuiltSource) -> Iterator[str]:
    for name, value in derived.items():
        if (said := getattr(record, name)) != value:
            yield f"{name} is {_short(said)}, should be {_short(value)}"


def _short(value: Any) -> str:
    return f"{value!r:.160}"


def _derived(phase: Phase, run: RunRecord, digests: Digests) -> dict[str, Any]:
    """What the run as a whole has to say."""
    said: dict[str, Any] = {
        "phase": digests.phase,
        "roots": digests.roots(),
        "totals": totals(run.sources, *SUMMED),
    }
    try:
        there = OrderIndex.open(phase.order).info.record()
        older = {"interval_steps"} if run.order.interval_steps is None else set()
        names = OrderRecord.model_fields.keys() - older
        said["order"] = run.order.model_copy(update={name: getattr(there, name) for name in names})
        columns = dict(read_index(phase.train)[0].columns)
        said["layout"] = {**run.layout, "columns": columns, "length": run.recipe["length"]}
    except (EttinError, IndexError):  # found where they are looked at
        pass
    return said


def _vocabulary_problem(run: RunRecord) -> str | None:
    """What is wrong with the ids by role; None too where the tokenizer that says them is not on this machine."""
    assert run.vocabulary is not None
    stated = Vocabulary.from_json(run.vocabulary)
    if (stated.digest, stated.size) != (run.tokenizer["sha256"], run.tokenizer.get("vocab_size")):
        return "vocabulary and tokenizer are of different files"
    if run.vocabulary.get("dtype", stated.dtype) != stated.dtype:
        return f"vocabulary.dtype is {_short(run.vocabulary['dtype'])}, should be {stated.dtype!r}"
    frame = run.recipe["tokenizer"].get("frame")
    known = MODERNBERT
    if stated.digest != MODERNBERT.digest:
        try:
            file = resolve(stated.name, sha256=stated.digest, asked_for=False)
            known = read_vocabulary(tokenizer_text(file), stated.name, stated.digest, Frame(**frame) if frame else None)
        except (EttinError, TypeError):
            return None
    same = replace(known, name=stated.name) == stated
    return None if same else f"vocabulary is {_short(asdict(stated))}, the tokenizer's {_short(asdict(known))}"


def _card_problem(phase: Phase, phase_name: str, written: FileDigest) -> str | None:
    try:
        text = files.read(phase.card)
    except OSError as error:
        return f"the card cannot be read: {error.strerror}"
    if standing_in(text, phase_name, written):
        return None
    return "the card does not hold what the build wrote into it; what people add before and after it may be there"
