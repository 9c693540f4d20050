"""The part of the command line that looks into runs: `ettin-data trace | view | exposure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ettin_data.base import files
from ettin_data.base.errors import ExitStatus, OrderError
from ettin_data.cli.shared import (
    FrameText,
    Json,
    Kind,
    MaxLength,
    PackingLaw,
    PhaseName,
    RayAddress,
    TokenizerName,
    Workers,
    bar,
    parallel,
    tell,
    tell_json,
    words,
)

if TYPE_CHECKING:
    from ettin_data.executor import ExecutorOptions
    from ettin_data.inspect.decoding import Words
    from ettin_data.inspect.lookup import Phase
    from ettin_data.stages.contamination.rules import Rule
    from ettin_data.stages.contamination.texts import TextsChoice
    from ettin_data.tokenizer.encoder import Tokenizer

Run = Annotated[Path, typer.Argument(help="A run folder such as runs/demo, or one phase of it.")]
Step = Annotated[int | None, typer.Option(help="Step, from 1.")]
Rank = Annotated[int | None, typer.Option(help="Only what this rank reads, with --world.")]
World = Annotated[int | None, typer.Option(help="Number of ranks.")]


def trace(
    run: Run,
    step: Step = None,
    rank: Rank = None,
    world: World = None,
    doc: Annotated[str | None, typer.Option(help="Id of a document: which steps saw it.")] = None,
    url: Annotated[str | None, typer.Option(help="URL of a document.")] = None,
    text: Annotated[str | None, typer.Option(help="The text of a document, or a part of it.")] = None,
    phase: PhaseName = None,
    law: PackingLaw = None,
    rows: Annotated[int, typer.Option(help="Rows of a step to show; 0 for all.")] = 20,
    characters: Annotated[int, typer.Option(help="Of each text; 0 for all.")] = 200,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
    as_json: Json = False,
) -> None:
    """What was in a step (--step), or which steps saw a document (--doc, --url, --text)."""
    from ettin_data.inspect.lookup import open_as_read

    phases = open_as_read(run, phase, law)
    if (step is not None) == any(value is not None for value in (doc, url, text)):
        raise OrderError(
            "two questions at once, or none",
            remedy="give --step, or one of --doc, --url and --text",
            status=ExitStatus.USAGE,
        )
    if step is not None:
        one = _one(phases)
        found = words(one.loader.vocabulary, tokenizer, frame)
        _trace_step(one, found, step, rank, world, rows, characters, as_json)
    else:
        found = words(phases[0].loader.vocabulary, tokenizer, frame)
        _trace_document(phases, found, doc, url, text, characters, as_json)


def _one(phases: list[Phase]) -> Phase:
    if len(phases) > 1:
        names = ", ".join(phase.name for phase in phases)
        raise OrderError(
            f"steps are counted in each phase; this run has {names}", remedy="give --phase", status=ExitStatus.USAGE
        )
    return phases[0]


def _trace_step(
    phase: Phase,
    words: Words,
    step: int,
    rank: int | None,
    world: int | None,
    rows: int,
    characters: int,
    as_json: bool,
) -> None:
    from ettin_data.inspect.trace import step_to_json, trace_step

    found = trace_step(phase, step, rank=rank, world=world, rows=rows or None)
    decode = words.decode
    if as_json:
        tell_json(step_to_json(found, decode))
        return
    whose = "" if rank is None else f", rank {rank} of {world}"
    tell(f"{found.phase} step {found.step:,}{whose} ({found.checkpoint}): {len(found.positions):,} samples")
    tell("  " + ", ".join(f"{source} {count:,}" for source, count in found.sources.items()))
    first_of = {} if found.packed is None else {first: row for row, first in enumerate(found.packed[:-1])}
    for number, sample in enumerate(found.rows):
        if number in first_of:
            tell("", f"row {first_of[number]:,}")
        tell("", f"[{number}] {sample.split.source}  id {sample.id}  {len(sample.tokens):,} tokens")
        for span in sample.spans:
            tell(f"    {span.file} record {span.record:,}, {_span(span)}")
        tell(f"    {_short(decode(sample.tokens), characters)!r}")
    if len(found.rows) < len(found.positions):
        more = "more rows" if found.packed is None else "samples in more rows"
        tell("", f"… {len(found.positions) - len(found.rows):,} {more}: --rows 0")


def _trace_document(
    phases: list[Phase],
    words: Words,
    doc: str | None,
    url: str | None,
    text: str | None,
    characters: int,
    as_json: bool,
) -> None:
    from ettin_data.inspect.trace import document_to_json, trace_document

    found = trace_document(phases, id=doc, url=url, text=text, tokenizer=words.needed)
    if not found and text is not None:
        _trace_part(phases, words, text, as_json)
        return
    if as_json:
        decode = words.decode if characters else None
        tell_json([document_to_json(document, decode) for document in found])
    for document in found if not as_json else []:
        tell(f"{document.id or '(packed)'}: {document.file} record {document.record:,}, {document.tokens:,} tokens")
        for phase in phases:
            if steps := document.steps(phase.name):
                tell(f"  {phase.name}: read {document.times(phase.name):.2f} times, in {len(steps):,} steps")
        for s in document.sightings:
            when = "in the tail that no step reads" if s.step is None else f"step {s.step:,} of {s.checkpoint}"
            row = (
                ""
                if s.row is None
                else f", row {s.row:,} " + (f"without its last {s.cut:,} tokens" if s.cut else "whole")
            )
            tell(f"    {s.phase} {when}{row}, {_span(s.span)} ({s.sample.split.name})")
    if not found:
        raise OrderError("no step of this run saw it", where=doc or url)


def _trace_part(phases: list[Phase], words: Words, text: str, as_json: bool) -> None:
    """A text that is no whole document: rows that contain it. Its first and last token may be cut otherwise there."""
    from ettin_data.inspect.contamination import NGRAM

    tokens, _ = words.needed().encode_batch([text])
    inner = tokens[1:-1] if len(tokens) > 4 else tokens
    size = max(1, min(NGRAM, len(inner)))
    lines = _find(phases, [inner], size, None)
    complete = [line for line in lines if line["grams"] == line["of"]]
    if as_json:
        tell_json(complete or lines)
    for line in [] if as_json else complete or lines:
        tell(f"{_place(line)}: {_share(line, size)} in {line['source']} id {line['id']}")
    if not lines:
        raise OrderError("no row of this run contains it", where=text[:80])


def _find(phases: list[Phase], texts: list[Any], n: int, options: ExecutorOptions | None) -> list[dict[str, Any]]:
    """Rows of all phases that contain n-grams of the texts, with their steps."""
    from ettin_data.executor import open_workers
    from ettin_data.inspect.contamination import find_texts, located

    lines: list[dict[str, Any]] = []
    with open_workers(options) as workers:
        for phase in phases:
            found = find_texts(phase.place.train, texts, n=n, options=workers, progress=bar(phase.name))
            lines += located(phase, found)
    return lines


def _place(line: dict[str, Any]) -> str:
    if line["step"] is None:
        return f"{line['phase']}, the tail that no step reads"
    return f"{line['phase']} step {line['step']:,} ({line['checkpoint']})"


def _share(line: dict[str, Any], n: int) -> str:
    return "all of it" if line["grams"] == line["of"] else f"{line['grams']:,} of its {line['of']:,} {n}-grams"


def view(
    run: Run,
    step: Annotated[int, typer.Option(help="Step, from 1.")],
    out: Annotated[Path, typer.Option(help="HTML file.")] = Path("step.html"),
    rank: Rank = None,
    world: World = None,
    phase: PhaseName = None,
    law: PackingLaw = None,
    max_seq_len: MaxLength = None,
    characters: Annotated[int, typer.Option(help="Of each row's text; 0 for all.")] = 1500,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
) -> None:
    """Write one self-contained HTML page of a step."""
    from ettin_data.inspect.lookup import open_as_read
    from ettin_data.inspect.view import page

    chosen = _one(open_as_read(run, phase, law))
    decode = words(chosen.loader.vocabulary, tokenizer, frame).decode
    text = page(chosen, step, decode, rank=rank, world=world, max_seq_len=max_seq_len, characters=characters)
    files.write(out, text)
    tell(f"{out}: {len(text):,} characters")


def exposure(
    run: Annotated[list[Path], typer.Argument(help="Run folders, or phases, in the order of training.")],
    law: PackingLaw = None,
    texts: Annotated[Path | None, typer.Option(help="A file of texts (jsonl, parquet, or one a line) to find.")] = None,
    text_key: Annotated[str, typer.Option(help="Of the texts, or questions, in jsonl, parquet or csv.")] = "text",
    answer_key: Annotated[str | None, typer.Option(help="Of their answers.")] = None,
    passage_key: Annotated[str | None, typer.Option(help="Of passages that belong to them.")] = None,
    unit: Annotated[str, typer.Option(help="words, however they are written; or tokens, exactly.")] = "words",
    ngram: Annotated[int | None, typer.Option(help="Words, or tokens, in a row; default 8 words, 13 tokens.")] = None,
    rule: Annotated[str, typer.Option(help="Share of a text that counts: half, or decon's.")] = "half",
    out: Annotated[Path | None, typer.Option(help="Parquet file for all documents.")] = None,
    examples: int = 10,
    scratch: Annotated[Path | None, typer.Option(help="Room for intermediate files, seen by all workers.")] = None,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
    as_json: Json = False,
    executor: Kind = "local",
    workers: Workers = 1,
    ray_address: RayAddress = None,
) -> None:
    """Documents that the model met more than once; or, with --texts, rows that contain texts of an evaluation."""
    from ettin_data.inspect.lookup import open_as_read

    phases = [phase for folder in run for phase in open_as_read(folder, law=law)]
    if texts is not None:
        from ettin_data.stages.contamination.rules import rule_of
        from ettin_data.stages.contamination.texts import TextsChoice

        found_words = words(phases[0].loader.vocabulary, tokenizer, frame, "auto").needed()
        columns = TextsChoice.named(str(texts), question=text_key, answer=answer_key, passage=passage_key)
        how = parallel(executor, workers, ray_address)
        if unit == "tokens":
            _same_tokens(phases, found_words, columns, ngram, how, as_json)
        elif unit == "words":
            _contamination(phases, found_words, columns, rule_of(rule, ngram), how, as_json)
        else:
            raise OrderError(f"there is no unit {unit!r}", where="--unit", remedy="use words or tokens")
        return
    from ettin_data.inspect.exposure import across_phases, to_json

    options = parallel(executor, workers, ray_address)
    found = to_json(
        across_phases(phases, keep=examples, write=out, scratch=scratch, options=options, progress=bar()), phases
    )
    if as_json:
        tell_json(found)
        return
    tell(f"{found['all_documents']:,} documents read")
    for names, count in found["documents"].items():
        tell(f"  {count:>14,}  {names}")
    tell("times read, over all phases: " + ", ".join(f"{n}x {count:,}" for n, count in found["times"].items()))
    for document in found["most_read"]:
        parts = ", ".join(
            f"{p['phase']} {p['times']:.2f}x (steps {p['first']:,}-{p['last']:,})" for p in document["phases"]
        )
        tell(f"  {document['id']}  {document['tokens']:,} tokens: {parts}")


def _contamination(
    phases: list[Phase],
    tokenizer: Tokenizer,
    columns: TextsChoice,
    rule: Rule,
    options: ExecutorOptions | None,
    as_json: bool,
) -> None:
    from ettin_data.executor import open_workers
    from ettin_data.inspect.evaluation import as_lines, find_evaluation
    from ettin_data.stages.contamination.index import Index
    from ettin_data.stages.contamination.texts import read_texts

    texts = read_texts([columns])
    index = Index.of(texts, rule)
    lines: list[dict[str, Any]] = []
    with open_workers(options) as workers:
        for phase in phases:
            found = find_evaluation(phase, index, tokenizer, options=workers, progress=bar(phase.name))
            lines += as_lines(phase, found)
    if as_json:
        tell_json(
            {"texts": len(texts), "unsearchable": index.unsearchable, "index": index.digest, "n": rule.ngram,
             "rule": rule.name, "hits": lines}
        )  # fmt: skip
        return
    touched = len({line["text"] for line in lines})
    tell(f"{touched:,} of {len(texts):,} texts stand in the data, by their words; paraphrases are not found")
    for line in lines:
        first, last = line["characters"]
        how_much = "all of it" if line["whole"] else f"{line['score']:.0%} of it"
        tell(
            f"  {line['text']}: {how_much} in {line['file']} record {line['record']:,} of {line['source']}, "
            f"characters {first:,}-{last:,}: {_steps(line)}"
        )
    if index.unsearchable:
        tell(f"{len(index.unsearchable):,} texts cannot be looked for:")
        for name, why in [*index.unsearchable.items()][:_FEW]:
            tell(f"  {name}: {why}")
        if len(index.unsearchable) > _FEW:
            tell("  … --json names all")


_FEW = 20


def _steps(line: dict[str, Any]) -> str:
    if not line["steps"]:
        return f"{line['phase']}, the tail that no step reads"
    return f"{line['phase']} step {', '.join(f'{step:,}' for step in line['steps'])} ({', '.join(line['checkpoints'])})"


def _same_tokens(
    phases: list[Phase],
    tokenizer: Tokenizer,
    columns: TextsChoice,
    ngram: int | None,
    options: ExecutorOptions | None,
    as_json: bool,
) -> None:
    from ettin_data.inspect.contamination import NGRAM
    from ettin_data.stages.contamination.texts import read_texts

    named, n = read_texts([columns]), ngram or NGRAM
    tokens, offsets = tokenizer.encode_batch([text.text for text in named])
    texts = [tokens[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    short = sum(len(text) < n for text in texts)
    lines = _find(phases, texts, n, options)
    if as_json:
        tell_json({"texts": len(texts), "too_short": short, "n": n, "hits": lines})
        return
    touched = len({line["text"] for line in lines})
    tell(f"{touched:,} of {len(texts):,} texts share a {n}-gram with the data ({short:,} have fewer than {n} tokens)")
    for line in sorted(lines, key=lambda line: (line["text"], -line["grams"])):
        name = named[line["text"]].name
        tell(f"  {name}: {_place(line)}: {_share(line, n)} in {line['source']} id {line['id']}")


def _span(span: Any) -> str:
    return f"tokens {span.start:,}-{span.start + span.length:,} of {span.tokens:,}"


def _short(text: str, characters: int) -> str:
    return text if not characters or len(text) <= characters else f"{text[:characters]}…"


COMMANDS = (trace, view, exposure)
