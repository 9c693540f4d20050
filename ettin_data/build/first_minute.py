"""What can be known of a plan before any work: targets that cannot be met, and what the sources' files hold.

A build of days that ends with "too few tokens", or with nothing but rejects, has known it in its first minute.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from ettin_data.base.disk_errors import free_bytes
from ettin_data.base.errors import BuildError, EttinError, ExitStatus
from ettin_data.base.units import count, size
from ettin_data.build.plan import Plan, SourcePlan
from ettin_data.sources.base import ReadOptions, Record, Reject, TransportOptions
from ettin_data.sources.reading import read_file

SLACK = 3.0
"""Tokens are only expected before they are counted, from the size of files: so many times more there may be. The demo's
sources hold half to 1.25 times what is expected, and scripts of three bytes a letter about twice as much."""

_LOOKED_AT = 20  # records of a source
_BLOCK = 1 << 20  # bytes asked for at a time: the first records need no more
_WORDS = 60  # characters of a text that are shown


def impossible(plan: Plan) -> dict[str, str]:
    """Source -> why its target cannot be met, of those of which that is sure from the size of their files."""
    most = plan.recipe.max_epochs
    found = {}
    for key, source in plan.sources.items():
        held = sum(split.expected_tokens for split in source.listed)
        if not held or any(file.size < 0 for split in source.listed for file in split.files):
            continue  # what is empty is said when it is read; of what has no size nothing is known
        if source.target_tokens > SLACK * most * held:
            found[key] = (
                f"holds about {count(held)} tokens; {count(source.target_tokens)} would take "
                f"{count(source.target_tokens / held)} passes"
            )
    return found


def refuse_impossible(plan: Plan) -> None:
    """Raise `BuildError`, with all sources that it is true of, if a target cannot be met in the passes allowed."""
    if not (found := impossible(plan)):
        return
    words = [f"source {key!r} {why}" for key, why in found.items()]
    first = next(iter(found))
    raise BuildError(
        words[0] if len(words) == 1 else f"{len(words):,} sources hold too few tokens: {', '.join(found)}",
        why="\n    ".join([f"max_epochs is {plan.recipe.max_epochs:g}", *(words if len(words) > 1 else [])]),
        remedy=f"lower sources.{first}.tokens, or all with --scale; or raise max_epochs",
        status=ExitStatus.USAGE,
    )


def disk_note(plan: Plan, folder: str) -> str | None:
    """A sentence if the disk has less room than the shards of a plan will take; None if it has, or nobody knows."""
    needed = sum(plan.output_bytes(source.target_tokens) for source in plan.sources.values())
    there, free = room(folder)
    if free is None or free >= needed:
        return None
    return f"the disk of {there} has {size(free)} free, and the shards alone will take about {size(needed)}"


def room(folder: str) -> tuple[str, int | None]:
    """The nearest folder above that is there, and the bytes that are free on its disk; None where nobody knows."""
    there = os.path.abspath(folder)
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    return there, free_bytes(there)


@dataclass(frozen=True)
class FirstRecords:
    """What the first file of a source holds.

    Attributes:
        key, file: of the source, and the file's name.
        facts: for people: how many records were looked at, what the first one is.
        problem: why nothing of it can be used; None if something can.
    """

    key: str
    file: str
    facts: str
    problem: str | None


def first_records(plan: Plan, transport: TransportOptions, read: ReadOptions | None = None) -> Iterator[FirstRecords]:
    """Open a record or some of each source, one after the other. What cannot be opened is its problem, and no error."""
    options = replace(read or ReadOptions(), transport=replace(transport, block_bytes=_BLOCK, cache=None))
    for key, source in plan.sources.items():
        if source.splits:
            yield _first_records(key, source, options)


def _first_records(key: str, source: SourcePlan, options: ReadOptions) -> FirstRecords:
    file = source.splits[0].files[0]
    try:
        with closing(read_file(source.source, file, options=options)) as items:  # type: ignore[type-var]
            found = list(islice(items, _LOOKED_AT))
    except EttinError as error:
        return FirstRecords(key, file.name, "", f"{error.what}: {error.why}" if error.why else error.what)
    rejects = [item for item in found if isinstance(item, Reject)]
    if len(rejects) == len(found):
        reasons = ", ".join(f"{reason} {number}" for reason, number in Counter(r.reason for r in rejects).items())
        detail = f" ({rejects[0].detail})" if rejects else ""
        keys = f"text in {source.source.text_key!r}, id in {source.source.id_key!r}"
        problem = f"none of its first {len(found)} records can be used: {reasons or 'there are none'}{detail}; {keys}"
        return FirstRecords(key, file.name, "", problem)
    first = next(item for item in found if isinstance(item, Record))
    what = f"{len(first.tokens):,} tokens" if first.tokens is not None else f"{len(first.text):,} characters"
    begins = "" if first.tokens is not None else f", {first.text[:_WORDS]!r}"
    looks_like = first.metadata.get("looks_like")
    notes = [f"characters repaired, looks like {looks_like}"] if looks_like else []
    notes += [f"{len(rejects)} of {len(found)} rejected: {rejects[0].reason}"] if rejects else []
    facts = "; ".join([f"id {first.id!r}, {what}{begins}", *notes])
    return FirstRecords(key, file.name, facts, None)


def refuse_unusable(looked: Sequence[FirstRecords]) -> None:
    """Raise `BuildError` if there are sources of whose first records nothing can be used."""
    bad = [first for first in looked if first.problem is not None]
    if bad:
        raise BuildError(
            f"nothing can be used of the first records of {', '.join(repr(first.key) for first in bad)}",
            where=", ".join(first.file for first in bad),
            why="\n    ".join(str(first.problem) for first in bad),
            remedy=f"see what the file holds; name its keys, with --set sources.{bad[0].key}.text_key=…, "
            "its encoding or its format; --no-look plans all the same",
        )
