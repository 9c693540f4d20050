"""The page of a run: tiles, pictures with what they say in words, tables, provenance, examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ettin_data.base.units import count
from ettin_data.base.version import VERSION
from ettin_data.inspect.markup import page_of, shown, table
from ettin_data.inspect.report.charts import pictures
from ettin_data.inspect.report.drawing import Picture, in_page, write_files
from ettin_data.inspect.report.facts import PhaseFacts
from ettin_data.inspect.similarity import ALIKE
from ettin_data.sources import by_standing, stated_licence
from ettin_data.stages.counts import ITEMS, most_found
from ettin_data.stages.filters import pii
from ettin_data.storage.records import BuiltSource

_AFTER = {"mixture": "sources", "not-used": "reasons"}  # picture -> the table that belongs to it
_MOST_LOST_FILES = 50


def report_page(title: str, phases: Sequence[PhaseFacts]) -> str:
    """The report of these phases as one HTML page that needs nothing else."""
    names = [f"phase-{n}" for n in range(len(phases))]
    links = [f'<a href="#{place}">{shown(facts.phase.name)}</a>' for place, facts in zip(names, phases, strict=True)]
    tokens = sum(facts.run.totals.get("tokens", 0) for facts in phases)
    said = f"{count(tokens)} tokens in {len(phases)} phase{'s' * (len(phases) != 1)} · shown by ettin-data {VERSION}"
    parts = "\n".join(_phase(place, facts) for place, facts in zip(names, phases, strict=True))
    return page_of(
        "report.html", {"title": shown(title), "facts": shown(said), "links": " ".join(links), "phases": parts}
    )


def write_pictures(phases: Sequence[PhaseFacts], folder: Path) -> list[Path]:
    """Every picture of these phases as `<phase>-<picture>.svg` and `.png`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        path
        for facts in phases
        for picture in pictures(facts)
        for path in write_files(picture, folder, f"{facts.phase.place.name}-{picture.name}")
    ]


def _phase(place: str, facts: PhaseFacts) -> str:
    run = facts.run
    tables = {"sources": _sources(facts), "reasons": _reasons(facts)}
    made = pictures(facts)
    parts = [
        f'<h2 id="{place}">{shown(facts.phase.name)}</h2>',
        f'<p class="facts">root <code>{shown(run.root)}</code></p>',
        _tiles(facts),
    ]
    for picture in made:
        parts.append(_figure(place, picture))
        if beside := tables.pop(_AFTER.get(picture.name, ""), ""):
            parts.append(beside)
    parts += [*_looked_for(facts), _provenance(facts), _examples(facts)]
    return "\n".join(parts)


def _tiles(facts: PhaseFacts) -> str:
    run, totals = facts.run, Counter(facts.run.totals)
    tiles = [
        (count(totals["tokens"]), f"tokens of {count(totals['target_tokens'])} asked for"),
        (f"{totals['documents']:,}", "documents"),
        (f"{totals['samples']:,}", f"samples of up to {run.layout['length']:,} tokens"),
        (f"{run.order.steps:,}", f"steps of {run.order.batch:,} samples"),
        (f"{len(run.sources):,}", "sources"),
        (count(totals["validation_tokens"]), "tokens held out"),
    ]
    return (
        '<ul class="tiles">' + "".join(f"<li><b>{shown(a)}</b><span>{shown(b)}</span></li>" for a, b in tiles) + "</ul>"
    )


def _figure(place: str, picture: Picture) -> str:
    drawn = in_page(Picture(f"{place}-{picture.name}", picture.title, picture.caption, picture.draw))
    return (
        f'<figure id="{place}-{picture.name}"><h3>{shown(picture.title)}</h3>'
        f'<div role="img" aria-label="{shown(picture.title)}">{drawn}</div>'
        f"<figcaption>{shown(picture.caption)}</figcaption></figure>"
    )


def _sources(facts: PhaseFacts) -> str:
    run = facts.run
    head = [
        "source",
        "category",
        "target",
        "tokens",
        "off by",
        "documents",
        "samples",
        "passes",
        "held-out documents",
        "licence",
    ]
    rows = []
    for name, row in sorted(run.sources.items(), key=lambda item: (-item[1].tokens, item[0])):
        licence, _ = stated_licence(name, run.recipe["sources"].get(name) or {})
        off = f"{row.tokens / row.target_tokens - 1:+.2%}" if row.target_tokens else "–"
        rows.append([
            name, row.category, f"{row.target_tokens:,}", f"{row.tokens:,}", off, f"{row.documents:,}",
            f"{row.samples:,}", f"{row.passes:.2f}", f"{row.validation_documents:,}", licence,
        ])  # fmt: skip
    totals = Counter(run.totals)
    whole = ["total", "", *(f"{totals[name]:,}" for name in ("target_tokens", "tokens")), "",
             *(f"{totals[name]:,}" for name in ("documents", "samples")), "", "", ""]  # fmt: skip
    return _details("The sources in numbers", table(head, rows, whole), is_open=len(rows) <= 30)


def _reasons(facts: PhaseFacts) -> str:
    rows = [
        [name, what, reason, f"{number:,}", f"{number / max(1, row.records):.3%}"]
        for name, row in sorted(facts.run.sources.items())
        for what, reason, number in _taken(row)
    ]
    lost = [
        [name, line] for name, row in sorted(facts.run.sources.items()) for line in row.lost_files[:_MOST_LOST_FILES]
    ]
    parts = [table(["source", "by", "reason", "records", "of the records read"], rows)]
    if lost:
        parts.append(table(["source", "lost file"], lost))
    return _details("Every reason in numbers", "\n".join(parts))


def _taken(row: BuiltSource) -> Iterator[tuple[str, str, int]]:
    for what, counts in (
        ("reject", row.rejected),
        ("filter", row.filtered),
        ("whole source", row.left_out),
        ("mix", row.not_taken or {}),
    ):
        yield from ((what, reason, number) for reason, number in counts.items())
    if row.lost_records:
        yield "damaged file", "about as many records as were lost", row.lost_records


def _looked_for(facts: PhaseFacts) -> list[str]:
    """What was looked for: copies, evaluation texts, personal data, twins of held-out documents, licences."""
    parts = ["<h3>Copies, evaluation texts, personal data, licences</h3>"]
    recipe = facts.run.recipe
    if facts.copies is None:
        parts.append("<p>Nobody looked for copies of documents (<code>dedup</code> in a recipe).</p>")
    elif not facts.copies:
        parts.append("<p>Copies of documents were looked for, and none were found.</p>")
    else:
        rows = [
            [row["source"], row["copies_of"], f"{row['documents']:,}", f"{row['share']:.2%}",
             "–" if row["tokens"] is None else f"{row['tokens']:,}",
             ", ".join(f"{reason} {of['documents']:,}" for reason, of in row["reasons"].items())]
            for row in facts.copies
        ]  # fmt: skip
        head = ["source", "copies of", "documents", "of its documents", "tokens", "reasons"]
        parts.append(table(head, rows))
        parts += _true_copies(facts.true_copies)
    if recipe.get("decontaminate"):
        counted = {
            name: row.steps["decontaminate"] for name, row in facts.run.sources.items() if "decontaminate" in row.steps
        }
        rows = [
            [name, ", ".join(f"{k} {_plain(v)}" for k, v in one.items() if k != ITEMS)]
            for name, one in sorted(counted.items())
        ]
        said = "Evaluation texts were looked for in every document, by their words. Paraphrases are not found."
        parts += [f"<p>{said}</p>", table(["source", "counted"], rows)]
        parts += _items(counted)
    else:
        parts.append("<p>Nobody looked for evaluation texts (<code>decontaminate</code> in a recipe).</p>")
    if (personal := recipe.get("pii")) is not None:
        rows = [
            [name, *(f"{number:,}" for number in pii.found_in(row.steps).values())]
            for name, row in sorted(facts.run.sources.items())
        ]
        head = ["source", "e-mail addresses", "IP addresses", "phone numbers", "documents dropped"]
        parts += [f"<p>Personal data: {shown(pii.told(personal))}.</p>", table(head, rows)]
    else:
        parts.append("<p>Nobody looked for personal data (<code>pii</code> in a recipe).</p>")
    looked_for = recipe.get("validation_twins")
    parts.append(
        f"<p>Copies of held-out documents were looked for ({shown(looked_for)}).</p>"
        if looked_for
        else "<p>Nobody looked whether copies of held-out documents are in train.</p>"
    )
    return parts + _licences(facts)


def _items(counted: dict[str, Any]) -> list[str]:
    """The evaluation texts that were found most often, over all sources."""
    items: Counter[str] = Counter()
    for one in counted.values():
        items.update(one.get(ITEMS) or {})
    rows = [[name, f"{number:,}"] for name, number in most_found(items).items()]
    title = f"The {len(rows)} evaluation texts that were found most often" if len(rows) > 1 else "By evaluation text"
    return [_details(title, table(["text", "hits"], rows), is_open=len(rows) <= 10)] if rows else []


def _licences(facts: PhaseFacts) -> list[str]:
    """Which sources have a licence that the recipe allows, one that it refuses, and one that is not known."""
    recipe = facts.run.recipe
    allow = recipe.get("allow")
    allow = [str(one) for one in allow] if isinstance(allow, list) else None
    found = by_standing({name: recipe["sources"].get(name) or {} for name in facts.run.sources}, allow)
    asked = f"Allowed were {', '.join(allow)} only." if allow is not None else "Every licence was allowed."
    rows = [
        [what, ", ".join(f"{each.name} ({each.licence})" for each in of_it) or "none"] for what, of_it in found.items()
    ]
    return [f"<p>{shown(asked)}</p>", table(["licence", "sources"], rows)]


def _true_copies(measured: dict[str, Any]) -> list[str]:
    """How many copies are copies, and how many of a block of documents were missed; from the texts, not from keys."""
    parts = []
    rows = [
        [reason, f"{one['pairs']:,}", f"{one['share']:.2%}", _interval(one)]
        for reason, one in (measured.get("precision") or {}).items()
        if one["pairs"]
    ]
    if rows:
        parts.append(
            f"<p>Copies whose words are truly alike (Jaccard similarity of at least {ALIKE}), of drawn pairs:</p>"
        )
        parts.append(table(["reason", "pairs", "alike", "95% interval"], rows))
    block = measured.get("recall")
    if block and block["bins"]:
        rows = [
            [
                f"from {one['from']}",
                f"{one['alike']:,}",
                f"{one['share']:.2%}",
                _interval(one),
                f"{one['expected']:.2%}",
            ]
            for one in block["bins"]
        ]
        parts.append(
            f"<p>Of {block['documents']:,} documents drawn by a key, those that are alike to a better-ranked one of "
            "them, by all pairs of their texts, and how many of these were left out:</p>"
        )
        parts.append(table(["similarity", "documents", "left out", "95% interval", "expected of the bands"], rows))
    return parts


def _interval(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    return f"{low:.2%} to {high:.2%}"


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)[:80]


def _provenance(facts: PhaseFacts) -> str:
    run = facts.run
    rows = [
        ["root", run.root],
        *([f"root of {name}", digest] for name, digest in run.roots.items()),
        ["plan", run.plan or "–"],
        ["digests", run.digests],
        ["order", f"law {run.order.law}, seed {run.order.seed}, epoch {run.order.epoch}, digest {run.order.digest}"],
        ["tokenizer", f"{run.tokenizer.get('vocab_size')} entries, sha256 {run.tokenizer['sha256']}"],
        ["columns", ", ".join(f"{name}: {kind}" for name, kind in run.layout["columns"].items())],
        ["executor", ", ".join(f"{name} {value}" for name, value in run.executor.items())],
        ["versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())],
    ]
    recipe = f"<pre>{shown(yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True, width=100))}</pre>"
    return "\n".join(
        ["<h3>Provenance</h3>", table(["what", "value"], rows), _details("The recipe, as it was resolved", recipe)]
    )


def _examples(facts: PhaseFacts) -> str:
    parts = []
    for example in facts.examples:
        sample = example.sample
        where = "; ".join(f"{span.file} record {span.record:,}" for span in sample.spans[:4])
        parts.append(
            f'<div class="example"><p><b>{shown(example.source)}</b> <span class="where">'
            f"position {sample.position:,} · {len(sample.tokens):,} tokens · id {shown(sample.id)} · {shown(where)}"
            "</span></p>"
            f"<pre>{shown(example.text)}</pre></div>"
        )
    return "\n".join(["<h3>Examples</h3>", *parts])


def _details(title: str, inner: str, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{shown(title)}</summary>{inner}</details>"
