"""The quick look at a split: every byte of its files against the marker, and the marker against the digests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from ettin_data.base import files
from ettin_data.base.errors import ShardError
from ettin_data.storage import split as markers
from ettin_data.storage.mds import HASH, ShardInfo, path_inside, read_index
from ettin_data.storage.phase import DIGESTS, INDEX, MARKER, reject_log, source_of
from ettin_data.storage.split import Marker
from ettin_data.verify.model import Finding, SplitCheck, SplitFacts, sentence

STRAYS = 20
"""That are named of one folder."""


def check_files(check: SplitCheck, facts: SplitFacts) -> tuple[Marker | None, list[ShardInfo]]:
    """Look at a split's files; findings and counts go to `facts`.

    Returns the marker, None when it cannot be used, and the shards of the index, none when that cannot be read.
    """

    def found(file: str, reason: str, detail: str) -> None:
        facts.findings.append(Finding(f"{check.name}/{file}".rstrip("/"), reason, detail, check.name))

    if not check.folder.is_dir():
        found("", "missing_split", "the folder of the split is missing")
        return None, []
    infos: list[ShardInfo] = []
    try:
        infos = read_index(check.folder)
    except ShardError as error:
        found(INDEX, "damaged_index", sentence(error))
    try:
        marker = markers.read_marker(check.folder)
    except ShardError as error:
        there = (check.folder / MARKER).exists()
        found(MARKER, "damaged_marker" if there else "missing_marker", sentence(error))
        return None, infos
    facts.marker = replace(marker, outputs={})
    if check.entry is not None and marker.digest != check.entry.marker:
        found(MARKER, "foreign_split", "a whole split, but not the one of this run: digests.json has another digest")
    for detail in _name_problems(check, marker):
        found(MARKER, "foreign_split", detail)
    facts.samples, facts.tokens = marker.samples, marker.tokens
    _check_outputs(check, marker, facts)
    unpacked = {info.basename: info for info in infos if info.zip_data}  # beside its shard, as Streaming leaves it
    for name in unpacked.keys() & set(os.listdir(check.folder)):
        _check_unpacked(check, unpacked[name], facts)
    for name in strays(check.folder, {*marker.outputs, MARKER, *unpacked})[:STRAYS]:
        detail = "the split's marker does not know it; move it elsewhere"
        facts.findings.append(Finding(f"{check.name}/{name}", "stray_file", detail))
    for detail in _index_problems(infos, marker):
        found(INDEX, "wrong_index", detail)
    if check.pool is None:
        for detail in _tally_problems(marker):
            found(MARKER, "broken_law", detail)
        _check_rejects(check, marker, facts)
    return marker, infos


def _check_outputs(check: SplitCheck, marker: Marker, facts: SplitFacts) -> None:
    twin = None if check.pool is None else check.phase / check.pool
    linked = 0
    for name, output in {**marker.outputs, MARKER: None}.items():
        path = check.folder / name
        try:
            path_inside(check.folder, name)
        except ShardError as error:
            facts.findings.append(Finding(f"{check.name}/{name}", "linked_file", sentence(error), check.name))
            continue
        if twin is not None and _same_file(path, twin / name):
            linked += 1
        elif output is not None:
            facts.files += 1
            facts.bytes += output["bytes"]
            if problem := file_problem(path, output):
                facts.findings.append(Finding(f"{check.name}/{name}", *problem, check.name))
    facts.linked = linked == len(marker.outputs) + 1


def _check_unpacked(check: SplitCheck, info: ShardInfo, facts: SplitFacts) -> None:
    """Readers take the raw shard before its compressed one, so it has to be what the index says."""
    raw = {"bytes": info.bytes, "xxh3_64": info.hashes.get(HASH)}
    if problem := file_problem(check.folder / info.basename, raw):
        facts.findings.append(Finding(f"{check.name}/{info.basename}", *problem, check.name))


def strays(folder: Path, known: Set[str]) -> list[str]:
    """The names in a folder of ours that nobody of us gave; what is hidden is the system's or the user's."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name not in known and not entry.name.startswith("."))


def file_problem(path: Path, output: Mapping[str, Any]) -> tuple[str, str] | None:
    """(reason, detail) of a file that does not have the size and hash that are written down for it."""
    try:
        size = files.require_ordinary(path)
        if size != output["bytes"]:
            return "wrong_size", f"{size:,} bytes, not {output['bytes']:,}"
        digest = files.digest(path)["xxh3_64"]
    except FileNotFoundError:
        return "missing_file", "the file is missing"
    except OSError as error:
        return "unreadable_file", f"the file cannot be read: {error.strerror}"
    if digest != output["xxh3_64"]:
        return "wrong_hash", f"xxh3_64 {digest}, not {output['xxh3_64']}: its bytes were changed"
    return None


def _name_problems(check: SplitCheck, marker: Marker) -> list[str]:
    """What a split says of itself is what its place says, and what it was made from has the fingerprint."""
    problems = []
    if marker.source != source_of(check.name) or not check.folder.name.startswith(f"{marker.name}-"):
        problems.append(f"it is the split {marker.name} of source {marker.source}, and does not belong here")
    if markers.fingerprint(marker.made_from) != marker.fingerprint:
        problems.append("what it says that it was made from does not have its fingerprint")
    if (entry := check.entry) is not None:
        said = (entry.root, entry.samples, entry.tokens)
        if said != (marker.root, marker.samples, marker.tokens):
            problems.append(f"{DIGESTS} gives it root {said[0]:.80}, {said[1]:,} samples and {said[2]:,} tokens")
    return problems


def _index_problems(infos: list[ShardInfo], marker: Marker) -> list[str]:
    problems = []
    samples = sum(info.samples for info in infos)
    if samples != marker.samples:
        problems.append(f"its shards have {samples:,} samples, the marker {marker.samples:,}")
    for info in infos:
        stored: Mapping[str, Any] = info.zip_data or {
            "basename": info.basename,
            "bytes": info.bytes,
            "hashes": info.hashes,
        }
        output = marker.outputs.get(stored["basename"])
        if output is None:
            problems.append(f"it names {stored['basename']}, which the marker does not know")
        elif (stored["bytes"], stored["hashes"].get(HASH)) != (output["bytes"], output["xxh3_64"]):
            problems.append(f"size or hash of {stored['basename']} is not that of the marker")
    return problems


def _tally_problems(marker: Marker) -> list[str]:
    """The conservation law (ARCHITECTURE 5.3), from the counts of the marker."""
    tally = marker.tally
    unused = sum(tally["rejected"].values()) + sum(tally["filtered"].values())
    skipped = sum(tally["skipped"].values())
    problems = []
    if tally["records"] != tally["documents"] + unused:
        problems.append(f"{tally['records']:,} records read, {tally['documents']:,} used, {unused:,} not used")
    if tally["tokens_in"] != tally["text_tokens"] + skipped:
        problems.append(f"{tally['tokens_in']:,} tokens in, {tally['text_tokens']:,} written, {skipped:,} skipped")
    if (tally["samples"], tally["tokens"]) != (marker.samples, marker.tokens):
        problems.append(f"{tally['samples']:,} samples were counted, {marker.samples:,} are in the marker")
    return problems


def _check_rejects(check: SplitCheck, marker: Marker, facts: SplitFacts) -> None:
    name = reject_log(marker.source, marker.name)
    if marker.rejects is None:
        if (check.phase / name).exists():
            facts.findings.append(Finding(name, "extra_rejects", "the split has rejected nothing", check.name))
        return
    facts.files += 1
    facts.bytes += marker.rejects["bytes"]
    if problem := file_problem(check.phase / name, marker.rejects):
        facts.findings.append(Finding(name, *problem, check.name))


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
