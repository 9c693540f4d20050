"""What holds between the splits of a phase: indexes, sums, the mixture against its targets, and the root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ettin_data.base import files
from ettin_data.base.errors import ShardError
from ettin_data.storage.digests import Digests, Entry
from ettin_data.storage.mds import index_text, merged_index, read_index
from ettin_data.storage.phase import (
    DIGESTS,
    INDEX,
    ORDER,
    ORDER_FILE,
    POOLS,
    RUN,
    TRAIN,
    VALIDATION,
    parse_copy,
    pool_of,
)
from ettin_data.storage.records import RunRecord
from ettin_data.storage.split import combine_roots
from ettin_data.verify.model import Finding, SplitFacts, sentence
from ettin_data.verify.quick import file_problem


def check_between(
    folder: Path,
    digests: Digests | None,
    run: RunRecord | None,
    facts: Mapping[str, SplitFacts],
    *,
    full: bool,
) -> Iterator[Finding]:
    """Look at a phase as a whole.

    Args:
        folder: of the phase.
        digests: None when there are none, or none that can be trusted: then there is nothing to compare with.
        run: what `run.json` says, or None.
        facts: `<part>/<source>/<folder>` -> what was seen of each split.
        full: roots were recomputed.
    """
    if digests is None:
        return
    for name, digest in digests.files.items():
        if problem := file_problem(folder / name, digest):
            yield Finding(name, *problem, ORDER if name == f"{ORDER}/{ORDER_FILE}" else None)
    for part in (TRAIN, VALIDATION):
        yield from _check_index(folder, part, digests)
    if run is not None:
        yield from _check_mixture(digests, run)
        yield from _check_documents(digests, run, facts)
    if full:
        yield from _check_roots(digests, facts)


def _check_index(folder: Path, part: str, digests: Digests) -> Iterator[Finding]:
    """`<part>/index.json` lists the shards of its splits, in the order of their names, and nothing else."""
    names = [f"{source}/{split}" for source, splits in digests.parts[part].items() for split in splits]
    where = f"{part}/{INDEX}"
    try:
        expected = merged_index([(name, folder / part / name) for name in names])
        found = read_index(folder / part)
        if files.read(folder / where) == index_text(expected).encode():
            return
    except ShardError as error:
        if error.where == folder / part or str(error.where).startswith(str(folder / where)):
            yield Finding(where, "damaged_index", sentence(error))
        return  # an index of a split is found where the split is looked at
    detail = f"{len(found):,} shards, {len(expected):,} belong there; the text is another"
    for number in range(max(len(found), len(expected))):
        here = found[number] if number < len(found) else None
        wanted = expected[number] if number < len(expected) else None
        if here != wanted:
            names_here = here.basename if here else "nothing"
            detail = f"shard {number} is {names_here}, should be {wanted.basename if wanted else 'nothing'}"
            if here and wanted and here.basename == wanted.basename:
                detail = f"the entry of shard {number}, {here.basename}, is not that of its split"
            break
    yield Finding(where, "wrong_index", detail)


def _check_mixture(digests: Digests, run: RunRecord) -> Iterator[Finding]:
    """Each source holds what `run.json` says, and meets its target to within one sample."""
    length = run.recipe["length"]
    tokens: dict[str, int] = {}
    for copy, splits in digests.parts[TRAIN].items():
        key = parse_copy(copy)[0]
        tokens[key] = tokens.get(key, 0) + sum(entry.tokens for entry in splits.values())
    for key, row in run.sources.items():
        choice, held = run.recipe["sources"][key], tokens.get(key, 0)
        passes = choice.get("passes")
        target = choice["tokens"] if passes is None else row.target_tokens
        if passes is not None and abs(row.passes - passes) > 1e-4 + passes / max(target, 1):  # as it is rounded
            detail = f"train has {row.passes:g} passes over source {key}, the recipe wants {passes:g}"
            yield Finding(RUN, "off_target", detail)
        if held != row.tokens:
            detail = f"train has {held:,} tokens of source {key}, run.json says {row.tokens:,}"
            yield Finding(RUN, "wrong_sum", detail)
        if abs(held - target) > length:
            detail = f"train has {held:,} tokens of source {key}, its target is {target:,}, a sample has {length:,}"
            yield Finding(f"{TRAIN}/{key}", "off_target", detail)
    for key in sorted(set(tokens) - set(run.sources)):
        yield Finding(f"{TRAIN}/{key}", "unknown_source", f"the recipe has no source {key}")


def _check_documents(digests: Digests, run: RunRecord, facts: Mapping[str, SplitFacts]) -> Iterator[Finding]:
    """Each document of a pool is in train, in validation, or counted with the reason why it is in neither."""
    trained = digests.copies(TRAIN)
    for key, row in run.sources.items():
        copies = trained.get(key, [])
        first = key if key in copies else copies[0] if copies else key
        found: dict[str, int] = {}
        for part, source in ((POOLS, key), (TRAIN, first), (VALIDATION, key)):
            counts = [facts[f"{part}/{source}/{split}"].documents for split in digests.parts[part].get(source, ())]
            found[part] = sum(count for count in counts if count is not None)
            if None in counts:
                break  # a marker that cannot be used is found there
        else:
            for part, said in ((TRAIN, row.documents), (VALIDATION, row.validation_documents)):
                if found[part] != said:
                    detail = f"{part} has {found[part]:,} documents of source {key}, run.json says {said:,}"
                    yield Finding(RUN, "wrong_sum", detail)
            counted = row.documents + row.validation_documents + sum(row.left_out.values())
            if row.not_taken is not None and (counted := counted + sum(row.not_taken.values())) != found[POOLS]:
                detail = f"{counted:,} documents of source {key} are accounted for, its pool has {found[POOLS]:,}"
                yield Finding(RUN, "documents_lost", detail)


def _check_roots(digests: Digests, facts: Mapping[str, SplitFacts]) -> Iterator[Finding]:
    """The tree again, from the decoded samples."""
    entries = digests.entries()
    roots: dict[str, str | None] = {}
    for name in entries:
        seen = facts[name]
        source = facts.get(pool_of(name)) if seen.linked else None
        roots[name] = source.root if source is not None else seen.root
        if roots[name] != entries[name].root and not seen.findings and not seen.linked:
            detail = f"root {roots[name]} of the decoded samples, digests.json has {entries[name].root}"
            yield Finding(name, "wrong_root", detail, name)
    again = Digests(
        digests.phase,
        digests.order,
        {part: _with_roots(part, splits, roots) for part, splits in digests.parts.items()},
        digests.files,
    )
    if again.root != digests.root:
        different = {part for part in (TRAIN, VALIDATION) if again.roots()[part] != digests.roots()[part]}
        detail = f"the decoded samples have root {again.root}, digests.json {digests.root}"
        yield Finding(DIGESTS, "wrong_root", f"{detail}: they differ in {' and '.join(sorted(different))}")


def _with_roots(
    part: str, splits: Mapping[str, Mapping[str, Entry]], roots: Mapping[str, str | None]
) -> dict[str, dict[str, Entry]]:
    return {
        source: {
            folder: Entry(roots[f"{part}/{source}/{folder}"] or combine_roots({}), entry.marker, 0, 0)
            for folder, entry in entries.items()
        }
        for source, entries in splits.items()
    }
