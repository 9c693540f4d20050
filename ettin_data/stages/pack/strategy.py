"""What a packing strategy is: a name, a version, its own options, and how it cuts documents into pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.options import Count, Options

Draw = Callable[[], NDArray[np.uint64]]
"""Gives one keyed draw for each document, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Spans of documents' text, each shape (n,) int64, in tokens, ordered by document and start."""

    document: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cut:
    """What becomes of some documents.

    Attributes:
        pieces: the spans that are kept.
        samples: for each sample the numbers of its pieces; None where each piece is a sample of its own.
        skipped: reason -> text tokens that are in no piece.
    """

    pieces: Pieces
    samples: list[list[int]] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Strategy:
    """A way of making samples from documents. Its functions stand at the top of a module: workers get them by name.

    Attributes:
        name: what a recipe calls it.
        version: raised when a change of the code changes what is cut; it is in the fingerprint of every split.
        options: the class of its options, all with defaults.
        cut: (tokens of each document, shape (n,) int64, all positive; a function that gives one keyed draw for each
            document, shape (n,) uint64; tokens of a full sample with its framing; the options) -> a `Cut`.
        several: whether a sample may hold pieces of several documents.
        own_open: whether every piece begins with the opening token, or only the first of a sample.
        layout_name: (tokens of a full sample, the options) -> how a split's folder is named after its `<split>-`;
            without it `tokenized-packed-<length>-<name>`.
        longest_loss: the options -> the most text tokens that may be missing at the end of a document; without it none.
        problem: (tokens of a full sample, the options) -> why the two do not go together, or None.
    """

    name: str
    version: int
    options: type[Options]
    cut: Callable[[NDArray[np.int64], Draw, int, Any], Cut]
    several: bool = False
    own_open: bool = True
    layout_name: Callable[[int, Any], str] | None = None
    longest_loss: Callable[[Any], int] | None = None
    problem: Callable[[int, Any], str | None] | None = None


class Windowed(Options):
    """Options of a strategy for which it matters which documents come together.

    With other options each batch is cut as it comes, which is right where every document is cut for itself.
    """

    window: Count = 16_000_000
    """Text tokens that are cut together, all of which are in memory."""


@dataclass(frozen=True)
class Choice:
    """A strategy with its options: what a recipe says under `pack`, in full.

    `passed_over`: options that stood there and that only other strategies have.
    """

    strategy: Strategy
    options: Options
    passed_over: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        return self.strategy.name

    @property
    def window(self) -> int | None:
        """Text tokens that are cut together, or None."""
        return self.options.window if isinstance(self.options, Windowed) else None

    @property
    def longest_loss(self) -> int:
        return self.strategy.longest_loss(self.options) if self.strategy.longest_loss else 0

    def layout_name(self, length: int) -> str:
        """What a split's folder is called after `<split>-` (ARCHITECTURE 5.5)."""
        named = self.strategy.layout_name
        return named(length, self.options) if named else f"tokenized-packed-{length}-{self.name}"

    def cut(self, lengths: NDArray[np.int64], draw: Draw, length: int) -> Cut:
        return self.strategy.cut(lengths, draw, length, self.options)

    def to_recipe(self) -> dict[str, Any]:
        """As a recipe writes it, with the defaults."""
        return {"strategy": self.name, **self.options.model_dump(mode="json")}

    def made_from(self) -> dict[str, Any]:
        """What decides where cuts fall, for the fingerprint of a split."""
        return {**self.to_recipe(), "version": self.strategy.version}
