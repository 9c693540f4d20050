"""One step of a run as one HTML page that needs nothing else: rows by source, lengths, text, edits, mixture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ettin_data.inspect.lookup import Phase, Sample
from ettin_data.inspect.markup import page_of, shown
from ettin_data.inspect.trace import StepTrace, trace_step
from ettin_data.order.law import Positions
from ettin_data.order.loader_edits import Kind, Loader
from ettin_data.order.packed_order import PackedOrder
from ettin_data.storage.phase import parse_copy
from ettin_data.tokenizer.vocabulary import AnyTokens

CHARACTERS = 1500
"""Characters of a row's text that the page holds."""

_KINDS: tuple[Kind, ...] = ("encoder", "decoder")


def page(
    phase: Phase,
    step: int,
    decode: Callable[[AnyTokens], str],
    *,
    rank: int | None = None,
    world: int | None = None,
    max_seq_len: int | None = None,
    characters: int = CHARACTERS,
) -> str:
    """The HTML page of step `step` (from 1), or of what one rank reads of it.

    Args:
        decode: token ids -> text.
        max_seq_len: of the loader; None takes that of the run.
        characters: of each row's text; 0 for all.
    """
    trace = trace_step(phase, step, rank=rank, world=world)
    if phase.packing is not None:
        max_seq_len = phase.packing.law.length
    loader = replace(phase.loader, max_seq_len=max_seq_len) if max_seq_len else phase.loader
    cut_at = loader.max_seq_len
    hues = _hues(phase)
    title = f"{phase.name} step {step:,}" + ("" if rank is None else f", rank {rank} of {world}")
    lines = [_row(i, sample, hues, decode, loader, characters) for i, sample in enumerate(trace.rows)]
    law, packed = phase.order.law if phase.packing is None else phase.packing.law, ""
    if phase.packing is not None and trace.packed is not None:
        packed = f"{len(trace.packed) - 1:,} packed rows, "
        for number in reversed(range(len(trace.packed) - 1)):  # from the last, so that places stay what they are
            first, last = trace.packed[number : number + 2]
            lines.insert(first, _packed_row(phase.packing, number, trace.positions[first:last]))
    rows = "\n".join(lines)
    tokens = sum(len(sample.tokens) for sample in trace.rows)
    facts = (
        f"{packed}{len(trace.rows):,} samples, {tokens:,} tokens · {trace.checkpoint} · "
        f"step {step:,} of {phase.steps:,} · law {law.name}, seed {law.seed}, epoch {law.epoch}, "
        f"batch {law.batch:,} · loader {loader.rule}, max_seq_len {cut_at:,}"
    )
    parts = {
        "title": shown(title),
        "facts": shown(facts),
        "mixture": _mixture(phase, trace, hues),
        "edits": _edit_table(trace, loader),
        "lengths": _histogram(trace, cut_at),
        "rows": rows,
    }
    return page_of("view.html", parts)


def _hues(phase: Phase) -> dict[str, int]:
    names = sorted({parse_copy(split.source)[0] for split in phase.splits})
    return {name: round(360 * i / max(len(names), 1)) for i, name in enumerate(names)}


def _packed_row(packing: PackedOrder, number: int, positions: Positions) -> str:
    """The line above the samples of a packed row: how full it is, and where each of them begins."""
    borders = np.cumsum([0, *packing.lengths[positions.astype(np.int64)].tolist()]).tolist()
    width, begins = packing.law.width, " · ".join(f"{border:,}" for border in borders)
    return (
        f'<tr class="packed"><td colspan="4">row {number}: {len(positions):,} samples, {borders[-1]:,} of {width:,} '
        f"tokens; borders at {begins}</td></tr>"
    )


def _row(
    number: int,
    sample: Sample,
    hues: dict[str, int],
    decode: Callable[[AnyTokens], str],
    loader: Loader,
    characters: int,
) -> str:
    cut_at = loader.max_seq_len
    source = parse_copy(sample.split.source)[0]
    text, seen = decode(sample.tokens[:cut_at]), len(sample.tokens[:cut_at])
    lost = decode(sample.tokens[seen:]) if seen < len(sample.tokens) else ""
    begin = text if not characters or len(text) <= characters else text[:characters]
    parts = [f"<span>{shown(begin)}</span>"]
    if len(begin) < len(text):
        parts.append(f'<i class="more">… {len(text) - len(begin):,} more characters</i>')
    if lost:
        parts.append(f"<del>{shown(lost[: characters or None])}</del>")
    marks = "".join(f'<b class="edit">{shown(mark)}</b>' for mark in _marks(sample.tokens, loader))
    where = "; ".join(
        f"{span.file} record {span.record}, tokens {span.start:,}-{span.start + span.length:,} of {span.tokens:,}"
        for span in sample.spans
    )
    return (
        f'<tr class="row" data-source="{shown(source)}" data-length="{len(sample.tokens)}" data-n="{number}" '
        f'style="--h:{hues[source]}"><td>{number}</td><td class="source">{shown(sample.split.source)}</td>'
        f'<td class="length"><i style="width:{100 * min(1.0, len(sample.tokens) / cut_at):.1f}%"></i>'
        f"{len(sample.tokens):,}</td><td>{marks}<details><summary>{shown(begin[:160])}</summary>"
        f'<p class="where">position {sample.position:,} · id {shown(sample.id)} · {shown(where)}</p>'
        f"<pre>{''.join(parts)}</pre></details></td></tr>"
    )


def _marks(tokens: AnyTokens, loader: Loader) -> list[str]:
    """The loader's edits to a sample in words, for each kind of model where they differ."""
    found = {kind: _words(tokens, kind, loader) for kind in _KINDS}
    if found["encoder"] == found["decoder"]:
        return found["encoder"]
    return [f"{kind}: {word}" for kind in _KINDS for word in found[kind]]


def _words(tokens: AnyTokens, kind: Kind, loader: Loader) -> list[str]:
    done, frame = loader.edits(tokens, kind), loader.vocabulary.frame
    words = [
        (done.opened, f"{frame.open} put in front"),
        (done.cut > 0, f"last {done.cut:,} token{'s' * (done.cut > 1)} cut"),
    ]
    return [word for applies, word in [*words, (done.closed, f"{frame.close} forced")] if applies]


def _mixture(phase: Phase, trace: StepTrace, hues: dict[str, int]) -> str:
    """The step's sources beside what the phase holds."""
    rows: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for sample in trace.rows:
        rows[parse_copy(sample.split.source)[0]] += 1
        tokens[parse_copy(sample.split.source)[0]] += len(sample.tokens)
    whole = {name: row.tokens for name, row in phase.run.sources.items()} if phase.run else {}
    total, all_tokens = max(sum(tokens.values()), 1), max(sum(whole.values()), 1)
    lines = []
    for name in sorted({*rows, *whole}, key=lambda n: (-tokens[n], n)):
        here, there = tokens[name] / total, whole.get(name, 0) / all_tokens
        lines.append(
            f'<tr style="--h:{hues.get(name, 0)}"><td class="source"><button data-source="{shown(name)}">'
            f"{shown(name)}</button></td><td>{rows[name]:,}</td><td>{tokens[name]:,}</td>"
            f'<td class="share"><i style="width:{100 * here:.2f}%"></i>{here:.2%}</td>'
            f"<td>{f'{there:.2%}' if whole else ''}</td></tr>"
        )
    return "\n".join(lines)


def _edit_table(trace: StepTrace, loader: Loader) -> str:
    lines = []
    for kind in _KINDS:
        done = [loader.edits(sample.tokens, kind) for sample in trace.rows]
        inserted, forced = sum(e.opened for e in done), sum(e.closed for e in done)
        rows, tokens = sum(e.cut > 0 for e in done), sum(e.cut for e in done)
        cells = "".join(f"<td>{value:,}</td>" for value in (inserted, rows, tokens, forced))
        lines.append(f"<tr><td>{kind}</td>{cells}</tr>")
    return "\n".join(lines)


def _histogram(trace: StepTrace, cut_at: int) -> str:
    lengths = np.array([len(sample.tokens) for sample in trace.rows])
    counts, edges = np.histogram(lengths, bins=16, range=(0, max(cut_at, int(lengths.max()))))
    top = max(int(counts.max()), 1)
    lines = []
    for i, count in enumerate(counts.tolist()):
        title = f"{int(edges[i]):,}-{int(edges[i + 1]):,} tokens: {count:,}"
        lines.append(f'<i style="height:{100 * count / top:.1f}%" title="{title}"></i>')
    return "\n".join(lines)
