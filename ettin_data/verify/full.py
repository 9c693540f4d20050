"""The full look at a split: every sample decoded and compared with its ledger, its marker and the phase's rules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.base.draws import document_key
from ettin_data.base.errors import ShardError
from ettin_data.storage import ledger as ledgers
from ettin_data.storage.attributes import AttributeFile, excluded_documents, read_attribute
from ettin_data.storage.ledger import Ledger
from ettin_data.storage.mds import HASH, MdsReader, Shard, ShardInfo
from ettin_data.storage.phase import INDEX, MARKER, VALIDATION, Phase, attribute_file, source_of
from ettin_data.storage.split import Marker, document_places, leaves_root, read_marker, sample_leaves
from ettin_data.tokenizer.vocabulary import AnyTokens
from ettin_data.verify.ledgers import ledger_problems, missing_in_pool
from ettin_data.verify.mixed import mix_problems
from ettin_data.verify.model import MOST_FINDINGS, Finding, Rules, SplitCheck, SplitFacts
from ettin_data.verify.rows import Difference, compare_leaves

_EXPANSION = 200  # of a compressed shard, at most
_FEW = 1 << 26


def check_samples(check: SplitCheck, rules: Rules, marker: Marker | None, facts: SplitFacts) -> None:
    """Decode a split; findings go to `facts`, at most `MOST_FINDINGS` of them."""
    mine: list[Finding] = []
    try:
        reader = MdsReader(check.folder)
    except ShardError:
        return  # the quick look has named the index
    stored = sum(_stored(check.folder, info) for info in reader.infos)
    if len(reader) * 4 > max(stored * _EXPANSION, _FEW):  # nobody makes room for what is only said to be there
        detail = f"it names {len(reader):,} samples in shards of {stored:,} bytes"
        facts.findings.append(Finding(f"{check.name}/{INDEX}", "wrong_index", detail, check.name))
        return
    leaves, lengths = _decode(check, rules, reader, mine)
    facts.root = leaves_root(leaves)
    try:
        ledger = ledgers.read_ledger(check.folder)
    except ShardError as error:
        mine.append(Finding(check.name, "damaged_ledger", f"{error.what}: {error.why}", check.name))
    else:
        mine += _against_ledger(check, rules, reader, marker, ledger, leaves, lengths)
    facts.findings += mine[:MOST_FINDINGS]
    if len(mine) > MOST_FINDINGS:
        more = f"{len(mine) - MOST_FINDINGS:,} further findings in this split are not listed"
        facts.findings.append(Finding(check.name, "more", more, check.name))


def _stored(folder: Path, info: ShardInfo) -> int:
    names = [info.basename, *([info.zip_data["basename"]] if info.zip_data else [])]
    return max((path.stat().st_size for name in names if (path := folder / name).is_file()), default=0)


def check_held_out(check: SplitCheck, marker: Marker, facts: SplitFacts) -> None:
    """No document of a split of `train/` is in `validation/`, and what was taken out of it for that is there.

    By the ledgers and markers, which a full look compares with the samples.
    """
    try:
        documents = ledgers.read_table(check.folder, ledgers.DOCUMENTS, ["file", "position"])
        held_out = tuple(_state(check.phase / name) for name in check.held_out)
        both = np.isin(document_places(marker.inputs, documents), _held_out(held_out))
    except (ShardError, IndexError):
        return  # found where the split is looked at
    if both.any():
        row = int(np.argmax(both))
        first = f"{marker.inputs[documents['file'][row]]['path']}, record {documents['position'][row]:,}"
        detail = f"{int(both.sum())} of its documents are held out for validation, the first {first}"
        facts.findings.append(Finding(check.name, "held_out_in_train", detail, check.name))
    stated, there = marker.cut_from_pool.get("held_out"), None
    name = f"{VALIDATION}/{source_of(check.name)}/{check.folder.name}"
    if name in check.held_out:
        with suppress(ShardError):
            there = read_marker(check.phase / name).cut_from_pool.get("cut")
    if stated is not None and (there is None or stated[:3] != there[:3]):  # the last is a number of this split
        detail = f"documents were taken out of it for {name}, which does not hold just these"
        facts.findings.append(Finding(check.name, "held_out_lost", detail, check.name))


def _state(folder: Path) -> tuple[Path, int, int]:
    """A split as it is now: in the same folder there may be another one by the next verification of this process."""
    try:
        status = (folder / MARKER).stat()
    except OSError:
        return folder, 0, 0
    return folder, status.st_ino, status.st_mtime_ns


@lru_cache(maxsize=2)
def _held_out(splits: tuple[tuple[Path, int, int], ...]) -> NDArray[np.uint64]:
    """The places of the documents of these validation splits."""
    places = []
    for folder, *_ in splits:
        with suppress(ShardError, IndexError):  # found where that split is looked at
            documents = ledgers.read_table(folder, ledgers.DOCUMENTS, ["file", "position"])
            places.append(document_places(read_marker(folder).inputs, documents))
    return np.concatenate([np.zeros(0, np.uint64), *places])


def _decode(
    check: SplitCheck, rules: Rules, reader: MdsReader, findings: list[Finding]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Leaves, shape (n, 2) uint64, and stored tokens, shape (n,) int64, of the samples; 0 for what is unreadable."""
    leaves = np.zeros((len(reader), 2), np.uint64)
    lengths = np.zeros(len(reader), np.int64)
    kinds = _kinds(rules)
    for number, info in enumerate(reader.infos):
        first = int(reader.starts[number])
        try:
            shard = Shard(check.folder, info)
        except ShardError as error:
            findings.append(_in_shard(check, info, None, "unreadable_shard", f"{error.what}: {error.why}"))
            continue
        if shard.digest() != info.hashes.get(HASH):
            findings.append(_in_shard(check, info, None, "wrong_hash", "its bytes do not have the hash of index.json"))
        for row in range(info.samples):
            try:
                name, ids = shard.sample(row)
                bounds = shard.column(row, "cu_seqlens") if "cu_seqlens" in info.columns else None
            except ShardError as error:
                findings.append(_in_shard(check, info, row, "unreadable_sample", str(error.why)))
                continue
            leaves[first + row] = document_key(name), xxhash.xxh3_64_intdigest(ids.data)
            lengths[first + row] = len(ids)
            for reason, detail in sample_problems(ids, bounds, rules, kinds):
                findings.append(_in_shard(check, info, row, reason, f"{detail} (id {name!r})"))
    return leaves, lengths


def _kinds(rules: Rules) -> NDArray[np.uint8]:
    """For each id: 0 text, 1 a framing token, 2 padding, 3 outside of the vocabulary. One look-up does all checks."""
    words = rules.vocabulary
    kinds = np.zeros(max(1 << 16, words.size + 1), np.uint8)
    kinds[[words.open, words.close]] = 1
    kinds[words.pad] = 2
    kinds[words.size :] = 3
    return kinds


def sample_problems(
    ids: AnyTokens, bounds: NDArray[np.int32] | None, rules: Rules, kinds: NDArray[np.uint8]
) -> list[tuple[str, str]]:
    """(reason, detail) of each rule that a sample breaks.

    Args:
        ids: shape (n,), the stored tokens.
        bounds: the sample's `cu_seqlens`, where it has them.
        rules, kinds: of the phase.
    """
    problems, words = [], rules.vocabulary
    if not 3 <= len(ids) <= rules.length:
        problems.append(("wrong_length", f"{len(ids):,} tokens; 3 to {rules.length:,} are allowed"))
    if len(ids) and (ids[0] != words.open or ids[-1] != words.close):
        problems.append(("wrong_frame", f"from {ids[0]} to {ids[-1]}, not from {words.open} to {words.close}"))
    if int(ids.min(initial=0)) < 0:
        return [*problems, ("id_out_of_range", f"id {int(ids.min())}")]
    worst = int(kinds[np.minimum(ids, len(kinds) - 1)].max(initial=0))
    if worst == 3:
        problems.append(("id_out_of_range", f"id {int(ids.max())} in a vocabulary of {words.size:,}"))
    elif worst == 2:
        problems.append(("padding", f"{words.frame.pad} at token {int(np.argmax(ids == words.pad))}"))
    if bounds is not None and (problem := _bounds_problem(ids, bounds.astype(np.int64), rules)):
        problems.append(("wrong_bounds", problem))
    return problems


def _bounds_problem(ids: AnyTokens, bounds: NDArray[np.int64], rules: Rules) -> str | None:
    if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != len(ids) or (np.diff(bounds) <= 0).any():
        return f"cu_seqlens {bounds[:4].tolist()}… do not part {len(ids):,} tokens"
    words = rules.vocabulary
    if (ids[bounds[1:] - 1] != words.close).any():
        return f"a document in the sample does not end with {words.frame.close}"
    if rules.own_open and (ids[bounds[:-1]] != words.open).any():
        return f"a document in the sample does not begin with {words.frame.open}"
    return None


def _against_ledger(
    check: SplitCheck,
    rules: Rules,
    reader: MdsReader,
    marker: Marker | None,
    ledger: Ledger,
    leaves: NDArray[np.uint64],
    lengths: NDArray[np.int64],
) -> list[Finding]:
    problems = ledger_problems(ledger, marker, rules, from_pool=check.pool is None)
    findings = [Finding(check.name, reason, detail, check.name) for reason, detail in problems]
    expected = sample_leaves(ledger)
    for difference in compare_leaves(leaves, expected):
        findings.append(_at(check, reader, difference.row, difference.reason, difference.detail))
    if len(leaves) == len(expected):
        for row in np.flatnonzero(lengths != ledger.samples["tokens"]).tolist():
            detail = f"{lengths[row]:,} tokens, the ledger says {ledger.samples['tokens'][row]:,}"
            findings.append(_at(check, reader, row, "wrong_tokens", detail))
    if check.pool is not None:
        findings += _against_pool(check, reader, marker, ledger)
    return findings


def _against_pool(check: SplitCheck, reader: MdsReader, marker: Marker | None, ledger: Ledger) -> list[Finding]:
    """What was cut from the pool is what the mix takes; without a marker, at least nothing that the pool has not."""
    assert check.pool is not None
    differences = None
    try:
        pool = ledgers.read_ledger(check.phase / check.pool)
        if marker is not None:
            left_out = _left_out(check, marker, len(pool.documents["key"]))
            differences = mix_problems(ledger, marker, pool, left_out)
        if differences is None:
            detail = f"{check.pool} has no such sample after the last"
            differences = [Difference(row, "not_from_pool", detail) for row in missing_in_pool(ledger, pool)]
    except (ShardError, IndexError):  # the pool's ledger is damaged, or its columns do not fit each other: found there
        return []
    return [_at(check, reader, each.row, each.reason, each.detail) for each in differences]


def check_left_out(check: SplitCheck, marker: Marker, facts: SplitFacts) -> None:
    """What attributes leave out of a split, its marker says; of a split that is taken whole they leave out nothing."""
    if check.pool is None:
        return
    said = marker.cut_from_pool.get("left_out", {})
    for name in check.attributes:
        path = _attribute(check, name)
        try:
            left_out = int((read_attribute(path).codes > 0).sum())
        except ShardError:
            continue  # found where its file is looked at
        if left_out and name not in said:
            detail = f"{left_out} of its documents are left out by {name}, and the split was made without it"
            facts.findings.append(Finding(check.name, "left_out_in_mix", detail, check.name))


def _attribute(check: SplitCheck, name: str) -> Path:
    assert check.pool is not None
    return Phase(check.phase, check.phase.name).attribute(name) / attribute_file(check.pool.partition("/")[2])


def _left_out(check: SplitCheck, marker: Marker, documents: int) -> NDArray[np.bool_]:
    """Mask of the documents of its pool's split that attributes leave out."""
    said = marker.cut_from_pool.get("left_out", {})
    files = tuple(AttributeFile(name, _attribute(check, name), digest) for name, digest in said.items())
    return excluded_documents(files, documents)


def _at(check: SplitCheck, reader: MdsReader, position: int, reason: str, detail: str) -> Finding:
    """A finding about a position of the split, given as a row of its shard."""
    if len(reader) == 0:
        return Finding(check.name, reason, detail, check.name)
    beyond = position >= len(reader)
    number, row = reader.locate(min(position, len(reader) - 1))
    if beyond:
        row, detail = row + 1, f"{detail}, at the end"
    elif row == 0 and number and reason == "missing_row":
        detail += f", or after the last of {reader.infos[number - 1].basename}"
    return _in_shard(check, reader.infos[number], row, reason, detail)


def _in_shard(check: SplitCheck, info: ShardInfo, row: int | None, reason: str, detail: str) -> Finding:
    stored: Sequence[str] = [info.zip_data["basename"]] if info.zip_data else [info.basename]
    return Finding(f"{check.name}/{stored[0]}", reason, detail, check.name, row)
