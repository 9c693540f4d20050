"""What a build makes of input that cannot be used: what is too much of it, and how what is skipped is said.

A damaged file fails its source, after everything else was built (`bad_input.on_bad_file: fail`), or what can be read
of it is used (`skip`); then what the rest probably held counts against `bad_input.max_rejects` (`sources.base.Loss`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import orjson

from ettin_data.base import files as disk
from ettin_data.base.errors import BuildError
from ettin_data.recipe import BadInput
from ettin_data.sources.base import SourceFile
from ettin_data.sources.manifest import ManifestDiff
from ettin_data.stages.batches import LostFile
from ettin_data.stages.read import FilesLost
from ettin_data.storage.phase import REJECTS, Phase
from ettin_data.storage.records import repaired
from ettin_data.storage.split import Marker

_SHOWN = 12
"""Files that a message names; all are in `rejects/`."""


_FIRST, _FIRST_RECORDS = 2, 10
"""Splits, and records in them, after which a source that has nothing but rejects is given up."""


@dataclass(frozen=True)
class Lost:
    """What of a source cannot be read.

    Attributes:
        files: every damaged one.
        records: what they probably held besides what was read of them.
    """

    files: tuple[LostFile, ...]
    records: int

    def lines(self) -> list[str]:
        """The files, each with place, reason and what it held; the first of them."""
        shown = [str(file) for file in self.files[:_SHOWN]]
        return shown + ([f"and {len(self.files) - _SHOWN:,} more"] if len(self.files) > _SHOWN else [])


def lost(markers: Sequence[Marker]) -> Lost:
    """What the damaged files in the splits of one source have lost, at the rates of its sound files."""
    files = tuple(LostFile.of_json(said) for marker in markers for said in marker.tally.get("lost", ()))
    inputs = [SourceFile.described(entry) for marker in markers for entry in marker.inputs]
    names = {file.file for file in files}
    sound = [file.bytes for file in inputs if file.name not in names]
    records = sum(marker.tally["records"] for marker in markers) - sum(file.seen for file in files)
    per_byte, per_file = records / max(sum(sound), 1), records / max(len(sound), 1)
    if not sound:  # then from what was read of the damaged ones
        per_byte = sum(file.seen for file in files) / max(sum(file.loss.read for file in files), 1)
    return Lost(files, sum(file.loss.records(file.seen, per_byte, per_file) for file in files))


def told(made: Marker | FilesLost) -> str | None:
    """What is said at once of a split with damaged files."""
    if isinstance(made, FilesLost):
        return f"damaged: {'; '.join(made.files)}"
    found = lost([made])
    return f"skipped: {'; '.join(found.lines())}" if found.files else None


def without_damage(made: Mapping[str, Marker | FilesLost]) -> dict[str, Marker]:
    """The markers of splits. Raises `FilesLost`, with every damaged file, if one of them could not be finished."""
    failed = [result for result in made.values() if isinstance(result, FilesLost)]
    if failed:
        raise FilesLost.together(failed)
    return {name: result for name, result in made.items() if isinstance(result, Marker)}


def mended(phase: Phase, key: str, difference: ManifestDiff) -> bool:
    """Whether all that changed in a source since its listing was frozen are files that a build has found damaged."""
    if difference.added or difference.removed or not difference.changed:
        return False
    damaged: set[str] = set()
    for log in phase.rejects(key, "*").parent.glob("*.jsonl"):
        with suppress(OSError, ValueError, KeyError, TypeError), disk.open_ordinary(log) as lines:  # then it is no help
            damaged |= {str(orjson.loads(line)["file"]) for line in lines if b'"rest_of_file":true' in line}
    return all(any(f"{name}@".startswith(f"{path}@") for name in damaged) for path, _ in difference.changed)


def judge(limits: BadInput, key: str, markers: Sequence[Marker]) -> str | None:
    """What a person should know of the input of a source that could not be used, or lost characters.

    Raises `BuildError` if that is too much of it, or all.
    """
    found = lost(markers)
    if sum(marker.tally["records"] for marker in markers) == 0:
        why = "\n       ".join(found.lines()) or "its files are empty"
        raise BuildError(f"source {key!r} gave no records", where=f"{REJECTS}/{key}/", why=why)
    said = [_judge_rejects(limits, key, markers, found), _judge_repairs(limits, key, markers)]
    return "\n".join(filter(None, said)) or None


class FirstSplits:
    """Sees to it that a source of which nothing can be used stops with its first splits, and not after days."""

    def __init__(self, limits: BadInput, planned: Mapping[str, int]) -> None:
        """`planned`: source -> how many of its splits are about to be built."""
        self._limits, self._left = limits, {key: min(number, _FIRST) for key, number in planned.items()}
        self._made: dict[str, list[Marker]] = {key: [] for key in planned}
        self.refusal: BuildError | None = None

    def told(self, made: Marker | FilesLost) -> str | None:
        """As `told`. Raises `BuildError`, as `judge` does, if all records of a source's first splits are rejects."""
        if isinstance(made, Marker) and (first := self._made.get(made.source)) is not None:
            first.append(made)
            records = sum(marker.tally["records"] for marker in first)
            if records > _counted(first, "rejected").total():
                del self._made[made.source]  # something of it can be used: its end will judge it
            elif len(first) >= self._left[made.source] and records >= _FIRST_RECORDS:
                try:
                    judge(self._limits, made.source, first)
                except BuildError as error:
                    self.refusal = error
                    raise
        return told(made)


def _judge_rejects(limits: BadInput, key: str, markers: Sequence[Marker], found: Lost) -> str | None:
    rejected = _counted(markers, "rejected")
    unused = rejected.total() + found.records
    seen = sum(marker.tally["records"] for marker in markers) + found.records
    if unused > limits.max_rejects * seen:
        reasons = [f"{reason} {number:,}" for reason, number in rejected.most_common(5)]
        if found.files:
            reasons.append(f"about {found.records:,} in damaged files\n       " + "\n       ".join(found.lines()))
        advice = _encoding_advice(key, _counted(markers, "noted"))
        raise BuildError(
            f"{unused:,} of {seen:,} records of source {key!r} cannot be used",
            where=f"{REJECTS}/{key}/",
            why=f"more than bad_input.max_rejects = {limits.max_rejects:.2%}: {', '.join(reasons)}",
            remedy=f"{advice or 'look at the rejects; correct the source'}, or raise bad_input.max_rejects",
        )
    if not found.files:
        return None
    return (
        f"source {key!r}: {len(found.files):,} damaged files were skipped, with about {found.records:,} of {seen:,} "
        f"records: {'; '.join(found.lines())}"
    )


def _judge_repairs(limits: BadInput, key: str, markers: Sequence[Marker]) -> str | None:
    noted, records = _counted(markers, "noted"), sum(marker.tally["records"] for marker in markers)
    number, advice = repaired(noted), _encoding_advice(key, noted)
    said = f"{number:,} of {records:,} documents of source {key!r} had characters replaced that are not UTF-8"
    if number > limits.max_repaired * records:
        raise BuildError(
            said,
            why=f"more than bad_input.max_repaired = {limits.max_repaired:.2%}",
            remedy=f"{advice or 'convert the source to UTF-8'}, or raise bad_input.max_repaired",
        )
    return f"{said}{f'; {advice}' if advice else ''}" if number else None


def _encoding_advice(key: str, noted: Mapping[str, int]) -> str | None:
    """What to do about the encoding that most of the texts that are no UTF-8 seem to be in."""
    votes = {what.removeprefix("looks_like_"): n for what, n in noted.items() if what.startswith("looks_like_")}
    if not votes:
        return None
    name = max(votes, key=lambda name: votes[name])
    name = "cp1252" if name == "latin-1" and "cp1252" in votes else name  # which has all that the other has, and more
    return f"they look like {name}: set sources.{key}.encoding={name}"


def _counted(markers: Sequence[Marker], name: str) -> Counter[str]:
    """The sum of a counter of the tallies."""
    total: Counter[str] = Counter()
    for marker in markers:
        total.update(marker.tally[name])
    return total
