"""The demo: the three phases at a millionth of their size, from a mirror of the sources made of real text.

It runs the code and the recipes of a real build. Only what follows from its size is set: the factors on the targets, a
batch that gives a few hundred steps, and splits of single files.
"""

from __future__ import annotations

from pathlib import Path

from ettin_data import recipe
from ettin_data.base.units import size
from ettin_data.demo.mirror import DEFAULT_MEGABYTES, MirrorReport, demo_scales, write_mirror
from ettin_data.recipe import Recipe

OVERRIDES = ("order.batch=16", "order.interval_tokens=250k", "split_bytes=1")


def mirror_folder(out: Path) -> Path:
    """Where the mirror of a demo lies."""
    return Path(out) / "sources"


def mirror(out: Path, megabytes: float = DEFAULT_MEGABYTES) -> str:
    """Write the mirror, if it is not there; returns a sentence about it."""
    return mirror_sentence(write_mirror(mirror_folder(out), megabytes=megabytes))


def mirror_sentence(mirror: MirrorReport) -> str:
    """A sentence about a mirror."""
    text = sum(source.text_bytes for source in mirror.sources.values())
    fewest, most = (choose(source.documents for source in mirror.sources.values()) for choose in (min, max))
    return f"{mirror.root}: {len(mirror.sources)} sources of {fewest:,} to {most:,} documents, {size(text)} of text"


def recipes(megabytes: float = DEFAULT_MEGABYTES) -> list[Recipe]:
    """The shipped recipes, scaled to the mirror."""
    return [
        recipe.load_recipe(phase, overrides=OVERRIDES, scale=scale * megabytes / DEFAULT_MEGABYTES)
        for phase, scale in demo_scales().items()
    ]
