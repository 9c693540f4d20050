"""Pictures of what happens one after the other: steps, the order over time, the time of a build, training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ettin_data.inspect.report.drawing import (
    BAR,
    BLUE,
    COLOURS,
    FRAME,
    GREEN,
    INK,
    LINE,
    MOST_BARS,
    PAPER,
    Picture,
    counts_axis,
    label,
    largest,
    left_out,
    legend,
    named_rows,
    panels,
    percent_axis,
)
from ettin_data.inspect.report.facts import PhaseFacts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_AREAS = 12
_SHOWN_S = 0.05  # of a stage of the build that is drawn


def batches(facts: PhaseFacts) -> Picture | None:
    steps = facts.steps
    if not len(steps.numbers):
        return None
    shown = min(MOST_BARS, len(steps.sources))

    def draw(width: float) -> Figure:
        figure, (axes,) = panels(width, [BAR * shown + FRAME])
        places = named_rows(axes, steps.sources[:shown])
        low, high = np.quantile(steps.shares[:, :shown], (0.05, 0.95), axis=0)
        mix, spread = steps.mix[:shown], steps.spread[:shown]
        begin = np.maximum(mix - 1.645 * spread, 0)
        chance = "90% of steps that are drawn at random"
        axes.barh(places, mix + 1.645 * spread - begin, 0.7, begin, color=LINE, label=chance)
        axes.hlines(places, low, high, color=BLUE, lw=3, label="90% of the steps")
        axes.plot(mix, places, "|", color=INK, ms=10, mew=1.5, label="in all of train")
        axes.set_xlim(0, None)
        percent_axis(axes)
        axes.set_xlabel("of a step's samples")
        legend(axes, width, 3)
        return figure

    return Picture(
        "batches",
        "How mixed a batch is",
        f"Share of each source in {len(steps.numbers):,} of {steps.of:,} steps of {facts.phase.order.batch:,} samples, "
        f"beside its share of all samples. A step differs from the mix by {steps.distance:.1%} of its samples on "
        f"average; steps that are drawn at random differ by about {steps.distance_by_chance:.1%}."
        + left_out(shown, len(steps.sources)),
        draw,
    )


def order(facts: PhaseFacts) -> Picture | None:
    steps = facts.steps
    if len(steps.numbers) < 2:
        return None
    middles, shares = steps.groups()
    shown = min(_MOST_AREAS, len(steps.sources))
    areas = shares[:, :shown].T
    names = [label(name, 22) for name in steps.sources[:shown]]
    if shown < len(steps.sources):
        areas = np.vstack([areas, shares[:, shown:].sum(axis=1)])
        names.append(f"{len(steps.sources) - shown:,} others")

    def draw(width: float) -> Figure:
        figure, (axes,) = panels(width, [3.1])
        colours = [COLOURS[n % len(COLOURS)] for n in range(len(areas))]
        axes.stackplot(middles, areas, colors=colours, edgecolor=PAPER, linewidth=0.6)
        axes.set_xlim(middles[0], middles[-1])
        axes.set_ylim(0, 1)
        axes.set_xlabel("step")
        percent_axis(axes, "y")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ends, below = areas[:, -1], np.cumsum(areas[:, -1]) - areas[:, -1]
        for name, colour, place in zip(names, colours, _apart(below + ends / 2, 0.05), strict=True):
            axes.annotate(name, (1.015, place), xycoords="axes fraction", va="center", color=colour, fontsize=7.5)
        return figure

    return Picture(
        "order",
        "The order over time",
        f"Share of each source in the samples of {len(middles):,} groups of the {len(steps.numbers):,} steps that were "
        "read, from the first step to the last. Where all sources are mixed evenly, nothing changes but by chance.",
        draw,
    )


def _apart(places: Any, least: float) -> list[float]:
    """Rising places between 0 and 1, moved as little as it takes to be `least` apart."""
    moved: list[float] = places.tolist()
    for n in range(1, len(moved)):
        moved[n] = max(moved[n], moved[n - 1] + least)
    most = 1.0
    for n in reversed(range(len(moved))):
        moved[n] = most = min(moved[n], most)
        most -= least
    return moved


def times(facts: PhaseFacts) -> Picture | None:
    seconds = facts.times.seconds
    stages = {name: spent for name, spent in facts.run.stages.items() if spent.seconds >= _SHOWN_S}
    if not seconds:
        return None
    names = largest(seconds)
    rows = facts.run.sources

    def draw(width: float) -> Figure:
        height = BAR * len(names) + FRAME
        of_stages = [BAR * len(stages) + FRAME] * (2 if stages else 0)
        figure, (took, speed, *whole) = panels(width, [height, height, *of_stages], 2)
        places = named_rows(took, names)
        hours = sum(seconds.values()) > 2 * 3600
        took.barh(places, [seconds[name] / (3600 if hours else 1) for name in names], 0.62, color=BLUE)
        took.set_title(f"{'hours' if hours else 'seconds'} of work")
        counts_axis(took)
        places = named_rows(speed, names)
        pool = {name: rows[name].pool_tokens if name in rows else 0 for name in names}
        speed.barh(places, [pool[name] / max(seconds[name], 1e-3) for name in names], 0.62, color=GREEN)
        speed.set_title("tokens of the pool a second")
        counts_axis(speed)
        for axes, what, colour in zip(whole, ("by the clock", "of processors"), (BLUE, GREEN), strict=False):
            places = named_rows(axes, stages)
            spent = [each.seconds if colour == BLUE else each.cpu_s for each in stages.values()]
            axes.barh(places, [value / (3600 if hours else 1) for value in spent], 0.62, color=colour)
            axes.set_title(f"{'hours' if hours else 'seconds'} of each stage, {what}")
            counts_axis(axes)
        return figure

    return Picture(
        "times",
        "Time",
        f"Of one worker, by the logs of {facts.times.splits:,} splits, those of earlier builds too. The build that "
        f"ended took {facts.run.seconds:,.0f} s in all, with the mix, train, validation and the order. Where a stage "
        "takes more of processors than by the clock, several were at work.",
        draw,
    )


def training(facts: PhaseFacts) -> Picture | None:
    curves = [curve for curve in facts.curves if np.isfinite(curve.loss).any()]
    if not curves:
        return None

    def draw(width: float) -> Figure:
        figure, (loss, rate) = panels(width, [2.6, 1.2])
        for curve, colour in zip(curves, COLOURS, strict=False):
            loss.plot(curve.steps, curve.loss, color=colour, lw=0.8, alpha=0.4)
            loss.plot(curve.steps, _smooth(curve.loss), color=colour, lw=1.8, label=label(curve.kind))
            if np.isfinite(curve.unigram).any():
                name = f"{label(curve.kind)}: by token frequencies alone"
                loss.plot(curve.steps, _smooth(curve.unigram), color=colour, lw=1, ls=":", label=name)
            rate.plot(curve.steps, curve.rate, color=colour, lw=1.3)
        loss.set_ylabel("loss, nats a token")
        loss.grid(axis="y")
        legend(loss, width)
        rate.set_ylabel("learning rate")
        rate.set_xlabel("step")
        return figure

    return Picture(
        "training",
        "Training",
        "Loss at each step and its running mean, as the trainer wrote them down, with the loss of a model that knows "
        "how often each token is and nothing else; below, the learning rate.",
        draw,
    )


def _smooth(values: Any, most: int = 8) -> Any:
    """The mean of each value and up to `most` - 1 before it."""
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - most, 0)
    return (sums[ends] - sums[begins]) / (ends - begins)
