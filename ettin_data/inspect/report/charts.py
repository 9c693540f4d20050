"""The pictures of a phase. Each function takes facts and gives a `Picture`, or None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from ettin_data.base.shapes import Counter, Shape, require
from ettin_data.base.units import count
from ettin_data.inspect.report.along import batches, order, times, training
from ettin_data.inspect.report.drawing import (
    BAR,
    BLUE,
    COLOURS,
    DIM,
    FRAME,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PAPER,
    RED,
    SKY,
    WIDE,
    Picture,
    counts_axis,
    label,
    largest,
    left_out,
    legend,
    named_rows,
    panels,
    percent_axis,
    short,
)
from ettin_data.inspect.report.facts import PhaseFacts
from ettin_data.stages.counts import MEASURED
from ettin_data.stages.filters.measured import histogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_RULES = 24
_STEEP = 20  # the largest bin over the largest that is dropped, from where a scale is logarithmic


def pictures(facts: PhaseFacts) -> list[Picture]:
    """All that this phase has something for, in the order of the page."""
    made = (
        _mixture(facts), _lengths(facts), _not_used(facts), _measured(facts), _packing(facts), batches(facts),
        order(facts), times(facts), training(facts),
    )  # fmt: skip
    return [picture for picture in made if picture is not None]


def _mixture(facts: PhaseFacts) -> Picture:
    rows = facts.run.sources
    names = largest({name: row.tokens for name, row in rows.items()})
    most = facts.run.recipe.get("max_epochs")

    def draw(width: float) -> Figure:
        height = BAR * len(names) + FRAME
        figure, (tokens, passes) = panels(width, [height, height], 2)
        places = named_rows(tokens, names)
        tokens.barh(places, [rows[name].tokens for name in names], 0.62, color=BLUE, label="tokens in train")
        targets = [rows[name].target_tokens for name in names]
        tokens.plot(targets, places, "|", color=INK, ms=9, mew=1.6, label="target")
        tokens.set_xlim(0, max(1, *targets, *(rows[name].tokens for name in names)) * 1.06)
        counts_axis(tokens)
        legend(tokens, width)
        places = named_rows(passes, names)
        through = [rows[name].passes for name in names]
        passes.hlines(places, 0, through, color=LINE, lw=2)
        passes.plot(through, places, "o", color=ORANGE, ms=5, label="passes through the pool")
        passes.axvline(1, color=DIM, lw=0.8, ls=":")
        if isinstance(most, int | float) and most <= 3 * max(1, *through):
            passes.axvline(most, color=RED, lw=1, ls="--", label=f"most allowed: {most:g}")
        passes.set_xlim(0, None)
        passes.grid(axis="x")
        legend(passes, width)
        return figure

    return Picture(
        "mixture",
        "The mixture against its targets",
        "Tokens of each source in train beside what the recipe asks for, and how often its pool is gone through."
        + left_out(len(names), len(rows)),
        draw,
    )


def _lengths(facts: PhaseFacts) -> Picture:
    lengths = facts.lengths

    def draw(width: float) -> Figure:
        figure, (documents, samples) = panels(width, [2.5, 2.5], 2)
        seen = np.flatnonzero(lengths.documents)
        first, last = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 1)
        edges = lengths.document_edges[first : last + 1]
        documents.stairs(lengths.documents[first:last], edges, fill=True, color=BLUE)
        documents.set_xscale("log", base=2)
        documents.xaxis.set_major_formatter(lambda value, _: count(value))
        documents.set_title("documents")
        if len(seen):
            documents.axvline(lengths.median_document, color=INK, lw=1, ls="--")
        samples.stairs(lengths.samples, lengths.sample_edges, fill=True, color=GREEN)
        samples.set_title("samples")
        counts_axis(samples)
        for axes in (documents, samples):
            counts_axis(axes, "y")
            axes.set_xlabel("tokens")
        return figure

    read = "" if lengths.splits == lengths.of else f" From a draw of {lengths.splits:,} of {lengths.of:,} splits."
    return Picture(
        "lengths",
        "How long documents and samples are",
        f"Documents by their text tokens, on a scale of doublings, the median ({lengths.median_document:,.0f}) dashed; "
        f"samples by their stored tokens (median {lengths.median_sample:,.0f}).{read}",
        draw,
    )


def _not_used(facts: PhaseFacts) -> Picture | None:
    parts: dict[str, dict[str, int]] = {}
    for name, row in facts.run.sources.items():
        found = {f"reject: {reason}": number for reason, number in row.rejected.items()}
        found |= {f"filter: {reason}": number for reason, number in row.filtered.items()}
        found |= {"lost in damaged files": row.lost_records} if row.lost_records else {}
        found |= {f"left out: {reason}": number for reason, number in row.left_out.items()}
        if found:
            parts[name] = found
    if not parts:
        return None
    share = {
        name: sum(found.values()) / max(1, facts.run.sources[name].records + facts.run.sources[name].lost_records)
        for name, found in parts.items()
    }
    names = largest(share)
    totals: dict[str, int] = {}
    for found in parts.values():
        for reason, number in found.items():
            totals[reason] = totals.get(reason, 0) + number
    reasons = sorted(totals, key=lambda reason: (-totals[reason], reason))
    drawn = reasons[: len(COLOURS) - 1]

    def draw(width: float) -> Figure:
        figure, (axes,) = panels(width, [BAR * len(names) + FRAME + 0.17 * (len(COLOURS) if width < WIDE else 4)])
        places = named_rows(axes, names)
        left = np.zeros(len(names))
        groups = [(reason, [reason]) for reason in drawn]
        if len(reasons) > len(drawn):
            groups.append((f"{len(reasons) - len(drawn)} other reasons", reasons[len(drawn) :]))
        for (shown, members), colour in zip(groups, COLOURS, strict=False):
            of = [facts.run.sources[name].records + facts.run.sources[name].lost_records for name in names]
            widths = np.array(
                [sum(parts[name].get(r, 0) for r in members) / max(n, 1) for name, n in zip(names, of, strict=True)]
            )
            axes.barh(places, widths, 0.62, left, color=colour, edgecolor=PAPER, lw=0.4, label=label(shown, 34))
            left += widths
        percent_axis(axes)
        axes.set_xlim(0, max(float(left.max()) * 1.05, 1e-9))
        axes.set_xlabel("of the records read")
        legend(axes, width)
        return figure

    return Picture(
        "not-used",
        "What was not used",
        "Records that were rejected, dropped by a filter, lost with a damaged file, or left out by a step over whole "
        "sources, as a share of the source's records. Sources that lost nothing are not drawn."
        + left_out(len(names), len(parts)),
        draw,
    )


class _Rule(Shape):
    threshold: Annotated[float, Field(allow_inf_nan=False)]
    at_least: bool
    bins: Counter


def _rules(facts: PhaseFacts) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(filter, rule, what it measured in all sources with the same threshold), of rules that measured something."""
    merged: dict[tuple[str, str, float, bool], dict[str, int]] = {}
    for row in facts.run.sources.values():
        for step, counts in row.steps.items():
            rules = counts.get(MEASURED) if isinstance(counts, dict) else None
            for rule, one in (rules if isinstance(rules, dict) else {}).items():
                try:
                    require(_Rule, one)
                    numbers = {float(edge): number for edge, number in one["bins"].items()}
                except ValueError:  # the steps of a run are anybody's, and only shown
                    continue
                bins = merged.setdefault((step, rule, one["threshold"], one["at_least"]), {})
                for edge, number in numbers.items():
                    bins[repr(edge)] = bins.get(repr(edge), 0) + number
    for (step, rule, threshold, at_least), bins in sorted(merged.items()):
        if sum(bins.values()):
            yield step, rule, {"threshold": threshold, "at_least": at_least, "bins": bins}


def _measured(facts: PhaseFacts) -> Picture | None:
    rules = [(step, rule, one, histogram(one)) for step, rule, one in _rules(facts)]
    if not rules:
        return None
    dropped = [int(counts[drops].sum()) for _, _, _, (_, counts, drops) in rules]
    # those that dropped the most first: they are what somebody looks for
    ranked = sorted(range(len(rules)), key=lambda n: (-dropped[n], rules[n][:2]))[:_MOST_RULES]

    def draw(width: float) -> Figure:
        from matplotlib.ticker import MaxNLocator

        figure, drawn = panels(width, [1.5] * len(ranked), 3)
        for axes, n in zip(drawn, ranked, strict=True):
            _, rule, one, (values, counts, drops) = rules[n]
            places = np.arange(len(values))
            axes.bar(places, counts, 1.0, color=[RED if drop else SKY for drop in drops])
            sign = "at least" if one["at_least"] else "at most"
            axes.set_title(f"{label(rule, 30)}\n{sign} {one['threshold']:g}, drops {dropped[n]:,}", fontsize=7.5)
            shown = sorted({0, len(values) // 2, len(values) - 1})
            axes.set_xticks(shown, [short(values[i]) for i in shown])
            axes.set_xlim(-1, max(len(values), 12))
            axes.tick_params(labelsize=6.5)
            if counts.max() > _STEEP * max(1, counts[drops].max(initial=0)):  # or what is dropped could not be seen
                axes.set_yscale("log")
                axes.set_ylim(0.5, None)
                axes.minorticks_off()
            else:
                axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.yaxis.set_major_formatter(lambda value, _: count(value))
        return figure

    return Picture(
        "filters",
        "What each rule of a filter saw",
        "Documents by the value that the rule measured, in bins around its threshold; those that it drops are red. All "
        "sources together." + left_out(len(ranked), len(rules)),
        draw,
    )


def _packing(facts: PhaseFacts) -> Picture | None:
    rows = {name: row for name, row in facts.run.sources.items() if row.tokens_in}
    if not rows:
        return None
    names = largest({name: row.tokens_in for name, row in rows.items()})
    length = int(facts.run.layout["length"])
    reasons = sorted({reason for row in rows.values() for reason in row.skipped_tokens})

    def draw(width: float) -> Figure:
        height = BAR * len(names) + FRAME
        figure, (fill, *more) = panels(width, [height] * (1 + bool(reasons)), 2)
        places = named_rows(fill, names)
        full = [rows[name].pool_tokens / max(1, rows[name].pool_samples) / length for name in names]
        fill.barh(places, full, 0.62, color=GREEN, label=f"mean fill of a sample of {length:,}")
        fill.set_xlim(0, 1)
        percent_axis(fill)
        legend(fill, width)
        for lost in more:
            places = named_rows(lost, names)
            left = np.zeros(len(names))
            for reason, colour in zip(reasons, COLOURS[1:], strict=False):
                widths = np.array([rows[name].skipped_tokens.get(reason, 0) / rows[name].tokens_in for name in names])
                lost.barh(
                    places, widths, 0.62, left, color=colour, edgecolor=PAPER, lw=0.4, label=f"skipped: {label(reason)}"
                )
                left += widths
            lost.set_xlim(0, max(float(left.max()) * 1.05, 1e-6))
            percent_axis(lost)
            legend(lost, width)
        return figure

    strategy = facts.run.recipe["pack"]
    shown = strategy.get("strategy") if isinstance(strategy, dict) else strategy
    return Picture(
        "packing",
        "Packing",
        f"Strategy {label(str(shown))}: how full the samples of each pool are, and how much of its text is in none, "
        "by reason. "
        f"{'' if reasons else 'Nothing was skipped.'}" + left_out(len(names), len(rows)),
        draw,
    )
