"""How pictures look, and how they get into a page and into files.

A picture is drawn in the colours of a light page. In the page, the colours of ink, lines and paper become those of the
page, so that one drawing serves in light and in dark; it is drawn for a wide and for a narrow page.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ettin_data.base import files
from ettin_data.base.extras import need
from ettin_data.base.units import count
from ettin_data.base.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, DIM, LINE, PAPER = "#1d2126", "#5d6670", "#d9dde3", "#fffffe"
_OF_PAGE = {INK: "currentColor", DIM: "var(--dim)", LINE: "var(--line)", PAPER: "var(--paper)"}

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", DIM, "#b8a800")
"""Okabe and Ito's palette, told apart with every kind of colour blindness; its yellow is darker, its black is grey."""
BLUE, ORANGE, GREEN, RED, SKY = COLOURS[:5]

MOST_BARS, BAR, FRAME = 24, 0.25, 0.75
"""Bars of a picture; inches of one with its label, and of what stands above and below them all."""

WIDE, NARROW = 7.6, 3.9
"""Inches at which a picture is drawn for a wide page, where it is 760 pixels wide, and for a narrow one."""

_DOTS_PER_INCH = 200
_RC = {
    "axes.edgecolor": LINE, "axes.labelcolor": DIM, "axes.labelsize": 8.5, "axes.linewidth": 0.8,
    "axes.spines.right": False, "axes.spines.top": False, "axes.titlecolor": INK, "axes.titlelocation": "left",
    "axes.titlesize": 9.5, "axes.axisbelow": True, "figure.dpi": 100, "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans", "font.size": 8.5, "grid.color": LINE, "grid.linewidth": 0.6, "legend.fontsize": 8,
    "legend.frameon": False, "legend.labelcolor": INK, "svg.fonttype": "none", "svg.hashsalt": "ettin-data",
    "text.color": INK, "text.parse_math": False, "xtick.color": DIM, "xtick.labelsize": 8, "ytick.color": DIM,
    "ytick.labelsize": 8, "xtick.major.size": 3, "ytick.major.size": 0, "savefig.pad_inches": 0.04,
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Attributes:
        name: of its files, and of its place in the page.
        title: what it shows; `caption`: how to read it, and what it was made from.
        draw: draws it at a width in inches.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[float], Figure]


def panels(width: float, heights: list[float], columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each of these heights in inches, `columns` beside each other where there is room."""
    from matplotlib.figure import Figure as Made

    if width < WIDE:
        columns = 1
    rows = [max(heights[n : n + columns]) for n in range(0, len(heights), columns)]
    figure = Made(figsize=(width, sum(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, height_ratios=rows)
    return figure, [figure.add_subplot(grid[n // columns, n % columns]) for n in range(len(heights))]


def short(value: float) -> str:
    """A number on an axis, small or large."""
    return count(value) if abs(value) >= 1000 else f"{value:.3g}"


def label(name: str, most: int = 26) -> str:
    """A foreign name as a label: visible, in one line, no longer than `most`."""
    shown = visible(name, lines=False)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def largest(values: Mapping[str, float]) -> list[str]:
    """The names to draw a bar for, the largest value first."""
    return sorted(values, key=lambda name: (-values[name], name))[:MOST_BARS]


def left_out(drawn: int, of: int) -> str:
    return f" The {drawn:,} largest of {of:,} are drawn." if drawn < of else ""


def named_rows(axes: Axes, names: Iterable[str]) -> Any:
    """Places of horizontal bars, the first on top, with their names."""
    shown = [label(name) for name in names]
    places = np.arange(len(shown))[::-1]
    axes.set_yticks(places, shown)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    return places


def counts_axis(axes: Axes, which: str = "x") -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_major_locator(MaxNLocator(5))
    axes.grid(axis=which)  # type: ignore[arg-type]


def percent_axis(axes: Axes, which: str = "x") -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(PercentFormatter(1.0))
    axis.set_major_locator(MaxNLocator(5))
    axes.grid(axis=which)  # type: ignore[arg-type]


def legend(axes: Axes, width: float, columns: int = 2) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns if width == WIDE else 1,
        borderaxespad=0.2,
        handlelength=1.2,
    )


def in_page(picture: Picture) -> str:
    """The picture as SVG for a page that has the colours as variables: once for a wide page, once for a narrow one."""
    with _drawing():
        both = [
            _svg(picture.draw(width), f"{picture.name}-{where}", where)
            for where, width in (("wide", WIDE), ("narrow", NARROW))
        ]
    return "\n".join(both)


def write_files(picture: Picture, folder: Path, name: str) -> tuple[Path, Path]:
    """The picture as `<name>.svg` and `<name>.png` on white paper; the same data gives the same files."""
    paths = folder / f"{name}.svg", folder / f"{name}.png"
    with _drawing():
        figure = picture.draw(WIDE)
        for path in paths:
            held = io.BytesIO()
            how: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": _DOTS_PER_INCH}
            figure.savefig(held, format=path.suffix[1:], **how)
            files.write(path, held.getvalue())
    return paths


@contextmanager
def _drawing() -> Iterator[None]:
    matplotlib = need("matplotlib", "drawing a report")
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that no font has: a name may hold any
        level = logging.getLogger("matplotlib").level
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger("matplotlib").setLevel(level)


def _svg(figure: Figure, prefix: str, where: str) -> str:
    held = io.StringIO()
    figure.savefig(held, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None})
    text = held.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", f'<svg class="{where}" aria-hidden="true"', 1)
    # ids are those of one drawing, and a page has many
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    for colour, variable in _OF_PAGE.items():
        text = text.replace(colour, variable)
    return re.sub(r"\n\s*", "\n", text)
