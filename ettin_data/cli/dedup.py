"""`ettin-data dedup RUN`: how many copies a search has found, of whom; `dedup explain`: why a document is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ettin_data.base import files
from ettin_data.base.errors import ExitStatus, OrderError
from ettin_data.base.visible import visible
from ettin_data.cli.shared import (
    FrameText,
    Json,
    Kind,
    PhaseName,
    RayAddress,
    TokenizerName,
    Workers,
    bar,
    by_default,
    parallel,
    print_table,
    tell,
    tell_json,
    words,
)

if TYPE_CHECKING:
    from ettin_data.executor import ExecutorOptions
    from ettin_data.inspect.decoding import Words
    from ettin_data.inspect.lookup import Phase
    from ettin_data.inspect.search import Search

_MATRIX = "matrix"
_LARGEST = 20

# `ettin-data dedup RUN` is `dedup matrix RUN`.
app = typer.Typer(cls=by_default(_MATRIX), help="What a search for copies has found in a run.", no_args_is_help=True)

Run = Annotated[Path, typer.Argument(help="A run folder with one phase, or a phase of it.")]
Measure = Annotated[
    bool, typer.Option("--measure", help="Look now, where keys are and nobody looked; removes nothing.")
]


@app.command(_MATRIX)
def matrix_of(
    run: Run,
    measure: Measure = False,
    keys: Annotated[
        bool, typer.Option("--keys", help="Make the keys that are missing first, by reading the sources once more.")
    ] = False,
    paragraphs: Annotated[
        bool,
        typer.Option("--paragraphs", help="Repeated paragraphs instead, by reading the text once more; removes none."),
    ] = False,
    within: Annotated[
        bool | None,
        typer.Option("--within/--across", help="Only copies within a source, or of another source or phase."),
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=0, help="Pairs, drawn by a key, whose texts are compared, and documents, each with all.")
    ] = 10_000,
    characters: Annotated[int, typer.Option(min=0, help="Of each text; 0 for all.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Write it as JSON, too.")] = None,
    phase: PhaseName = None,
    sources_root: Annotated[
        str | None, typer.Option(help="For --keys and --paragraphs: the mirror; default: the run's.")
    ] = None,
    executor: Kind = "local",
    workers: Workers = 1,
    ray_address: RayAddress = None,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
    as_json: Json = False,
) -> None:
    """Copies by source and source of the twin, sizes of clusters and the largest ones, and how many are true.

    With --keys alone, what those need who look later is made, and the phase stays as it is.
    """
    from ettin_data.inspect.search import opened

    one, at_work = _one(run, phase), parallel(executor, workers, ray_address)
    if paragraphs:
        _paragraphs(one, sources_root, at_work, as_json)
        return
    if keys:
        made = _with_keys(one, sources_root, at_work)
        if not measure:
            tell_json(made) if as_json else tell(
                f"{one.name}: keys of {made['made']:,} splits made, {made['there']:,} had them"
            )
            return
    with opened(one.place, measure, at_work, bar(one.name)) as search:
        found = _found(one, search, within, pairs, characters, words(one.loader.vocabulary, tokenizer, frame))
    if out is not None:
        files.write(out, json.dumps(found, indent=1) + "\n")
    if as_json:
        tell_json(found)
    else:
        _show(found)


@app.command("explain")
def explain_copy(
    run: Run,
    document: Annotated[str, typer.Option(help="Its id.")],
    measure: Measure = False,
    characters: Annotated[int, typer.Option(min=0, help="Of each text; 0 for all.")] = 2000,
    phase: PhaseName = None,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
    as_json: Json = False,
) -> None:
    """Whether a document is a copy, of which twin and why: both texts side by side, and how alike they truly are."""
    from ettin_data.inspect.duplicates import documents_with, explained
    from ettin_data.inspect.search import opened

    one = _one(run, phase)
    with opened(one.place, measure, None, bar(one.name)) as search:
        decode = words(one.loader.vocabulary, tokenizer, frame)
        found = [
            _with_texts(one, search, number, explained(search, number), decode)
            for number in documents_with(search, document)
        ]
    if as_json:
        tell_json(found)
        return
    for each in found:
        _show_one(each, document, characters)


def _one(run: Path, name: str | None) -> Phase:
    from ettin_data.inspect.lookup import open_phases

    phases = open_phases(run, name)
    if len(phases) > 1:
        names = ", ".join(phase.name for phase in phases)
        raise OrderError(
            f"copies are looked for phase by phase; this run has {names}",
            remedy="give --phase",
            status=ExitStatus.USAGE,
        )
    return phases[0]


def _paragraphs(phase: Phase, sources_root: str | None, workers: ExecutorOptions | None, as_json: bool) -> None:
    from ettin_data.build.copies.paragraphs_measured import count_repeated
    from ettin_data.build.prepare import BuildOptions

    options = BuildOptions(phase.folder.parent, sources_root, workers, progress=bar(phase.name))
    found = count_repeated(phase.place, options)
    if as_json:
        tell_json({"phase": phase.name, "sources": found})
        return
    tell(f"{phase.name}: paragraphs that stand in a source already")
    for key, one in found.items():
        tell(
            f"  {key}: {one['repeated']:,} of {one['paragraphs']:,} that are long enough ({one['share']:.2%}), in "
            f"{one['documents']:,} documents"
        )


def _with_keys(phase: Phase, sources_root: str | None, workers: ExecutorOptions | None) -> dict[str, Any]:
    from ettin_data.build.copies.keys_beside import make_keys
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.dedup.options import DedupChoice

    options = BuildOptions(phase.folder.parent, sources_root, workers, progress=bar(phase.name))
    made = make_keys(phase.place, DedupChoice().keys, options)
    return {"phase": phase.name, "made": made.made, "there": made.there}


def _found(
    phase: Phase, search: Search, within: bool | None, pairs: int, characters: int, decode: Words
) -> dict[str, Any]:
    from ettin_data.inspect import duplicates
    from ettin_data.inspect.recall import measured
    from ettin_data.inspect.search import split_of

    clusters = duplicates.clusters(search, within)
    survivors = clusters.survivors[:_LARGEST]
    texts = duplicates.texts(search, survivors, phase.loader.vocabulary)
    largest = []
    for number, copies in zip(survivors.tolist(), clusters.copies.tolist(), strict=False):
        split, row = split_of(search, number)
        text = decode.decode(texts[number]) if number in texts else None
        shown = text if text is None or not characters else text[:characters]
        largest.append({**split.place(row), "copies": copies, "text": shown})
    return {
        "phase": phase.name,
        "measured": search.measured,
        "matrix": duplicates.matrix(search, within),
        "clusters": {"survivors": len(clusters.survivors), "copies": clusters.histogram(), "largest": largest},
        **measured(phase.place, search, within, decode.tokenizer, pairs),
    }


def _show(found: dict[str, Any]) -> None:
    from ettin_data.inspect.similarity import ALIKE

    tell(f"{found['phase']}: copies {'that a search would leave out' if found['measured'] else 'that were left out'}")
    for row in found["matrix"]:
        reasons = ", ".join(f"{name} {count['documents']:,}" for name, count in row["reasons"].items())
        tokens = "tokens not counted" if row["tokens"] is None else f"{row['tokens']:,} tokens"
        tell(
            f"  {row['source']}, copies of {row['copies_of']}: {row['documents']:,} documents "
            f"({row['share']:.2%}), {tokens}: {reasons}"
        )
    clusters = found["clusters"]
    if not found["matrix"]:
        tell("  none")
        return
    tell(f"survivors with copies: {clusters['survivors']:,}, by the number of these:")
    tell(*(f"  {size}: {count:,}" for size, count in clusters["copies"].items()))
    tell("with the most copies:")
    for one in clusters["largest"]:
        tell(f"  {one['copies']:,} of {_place(one)}", f"    {_text(one['text'])!r}")
    for reason, one in (found["precision"] or {}).items():
        if one["pairs"]:
            low, high = one["interval"]
            tell(
                f"{reason}: {one['share']:.2%} of {one['pairs']:,} pairs are truly alike "
                f"(Jaccard of at least {ALIKE}; 95% interval {low:.2%} to {high:.2%})"
            )
        else:
            tell(f"{reason}: the texts of copies are in no pool, so nobody can say how many are truly alike")
    if recall := found["recall"]:
        tell(f"of {recall['documents']:,} drawn documents, those with a better-ranked one among them that is as alike:")
        for one in recall["bins"]:
            low, high = one["interval"]
            tell(
                f"  from {one['from']}: {one['alike']:,}, left out {one['left_out']:,} ({one['share']:.2%}; "
                f"95% interval {low:.2%} to {high:.2%}; {one['expected']:.2%} expected of the bands)"
            )
        if not recall["bins"]:
            tell("  none")


def _with_texts(phase: Phase, search: Search, number: int, said: dict[str, Any], decode: Words) -> dict[str, Any]:
    import numpy as np

    from ettin_data.inspect.duplicates import texts
    from ettin_data.inspect.similarity import similarity

    twin = said["twin"]["number"] if said["twin"] else number
    tokens = texts(search, np.array([number, twin], np.int64), phase.loader.vocabulary)
    text, other = (decode.decode(tokens[each]) if each in tokens else None for each in (number, twin))
    said["text"] = text
    if said["twin"]:
        readable = decode.tokenizer is not None and text is not None and other is not None
        said["similarity"] = similarity(text or "", other or "", search.choice.keys) if readable else None
        said["twin"] = {name: value for name, value in said["twin"].items() if name != "number"} | {"text": other}
    return said


def _show_one(said: dict[str, Any], document: str, characters: int) -> None:
    from rich.table import Table

    tell(f"{document}: {_place(said)}")
    if said["twin"] is None:
        tell("  no copy of a better-ranked document")
        return
    true = "not known" if said["similarity"] is None else f"{said['similarity']:.3f}"
    tell(
        f"  {said['reason']} of {_place(said['twin'])}",
        f"  bands shared {said['bands']}, likeness by sketches {said['likeness']:.3f}, true similarity {true}",
    )
    table = Table("the copy", "its twin", expand=True)
    table.add_row(*(visible(_text(each["text"])[: characters or None]) for each in (said, said["twin"])))
    print_table(table)


def _place(one: dict[str, Any]) -> str:
    where = "its place is not known here" if one["file"] is None else f"{one['file']} record {one['record']:,}"
    return f"{one['source']}, {where}"


def _text(text: str | None) -> str:
    return "(its text is not in this run's pools)" if text is None else text
