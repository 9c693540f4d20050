"""What the trainer's loader does to a stored sample before the model sees it (ARCHITECTURE 5.6), in one place.

A rule has a name, which the recipe chooses and `run.json` keeps; a `Loader` is a rule with its limit and the vocabulary
of the run. Trainer, export of the order, its verification and the viewer take it from there, so that they cannot
disagree. To add a rule, write its function and name it in `RULES`.

"ettin" is `NoStreamingDataset.__getitem__` in ModernBERT's `src/text_data.py` and the fork that trained Ettin. A sample
in the published layout (opening token … closing token, ARCHITECTURE 5.2) comes through unchanged unless it is longer
than `max_seq_len`, as the 8,000-token samples of phases 2 and 3 are with `max_seq_len: 7999`. Upstream's public
versions cut such a sample without putting the closing token back, which is the `decoder` kind here; `canonical` makes
all of these equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError, near
from ettin_data.storage.records import RunRecord
from ettin_data.tokenizer.vocabulary import MODERNBERT, AnyTokens, Vocabulary

UNCUT = 1 << 30
"""A `max_seq_len` that cuts nothing."""

Kind = Literal["encoder", "decoder"]
FormKind = Literal["stored", "encoder", "decoder"]


@dataclass(frozen=True)
class Rule:
    """A way to edit samples.

    Attributes:
        apply: (tokens of one sample, kind of model, max_seq_len, vocabulary) -> what the model sees. Never modifies the
            tokens; gives a view of them where nothing is put in.
        keeps: (first tokens, last tokens, lengths, kind, max_seq_len, vocabulary) -> which samples `apply` leaves as
            they are, bool of the same shape. What makes the hashing of millions of samples fast.
        max_seq_len: tokens of a full sample -> the limit that the rule has by itself.
    """

    apply: Callable[[AnyTokens, Kind, int, Vocabulary], AnyTokens]
    keeps: Callable[[AnyTokens, AnyTokens, NDArray[np.int64], Kind, int, Vocabulary], NDArray[np.bool_]]
    max_seq_len: Callable[[int], int]


def _ettin(tokens: AnyTokens, kind: Kind, max_seq_len: int, vocabulary: Vocabulary) -> AnyTokens:
    """The opening token in front if it is missing, cut to `max_seq_len`, for encoders the closing token at the end."""
    if len(tokens) == 0 or tokens[0] != vocabulary.open:
        tokens = np.concatenate([_one(vocabulary.open, tokens.dtype), tokens[: max_seq_len - 1]])
    tokens = tokens[:max_seq_len]
    if kind == "encoder" and tokens[-1] != vocabulary.close:
        tokens = np.concatenate([tokens[: max_seq_len - 1], _one(vocabulary.close, tokens.dtype)])
    return tokens


def _one(token: int, dtype: np.dtype[Any]) -> AnyTokens:
    if token > np.iinfo(dtype).max:
        raise OrderError(f"the samples are {dtype}, which does not hold token {token:,} of their vocabulary")
    return np.array([token], dtype)


def _ettin_keeps(
    first: AnyTokens, last: AnyTokens, lengths: NDArray[np.int64], kind: Kind, max_seq_len: int, vocabulary: Vocabulary
) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (first == vocabulary.open) & (lengths <= max_seq_len)
    return same & (last == vocabulary.close) if kind == "encoder" else same


RULES: Mapping[str, Rule] = {
    "ettin": Rule(_ettin, _ettin_keeps, lambda length: 7999 if length == 8000 else length),
    "as_stored": Rule(
        lambda tokens, kind, max_seq_len, vocabulary: tokens[:max_seq_len],
        lambda first, last, lengths, kind, max_seq_len, vocabulary: lengths <= max_seq_len,
        lambda length: length,
    ),
}
"""The rules that a recipe can choose with `loader: {rule: …}`. "as_stored" puts nothing in and only cuts."""


def rule_named(name: str) -> Rule:
    """Raises `OrderError` for a name that is no rule."""
    if name not in RULES:
        raise OrderError(f"there is no loader's rule {name!r}", where="loader.rule", remedy=near(name, RULES))
    return RULES[name]


@dataclass(frozen=True)
class Edits:
    """What a loader does to one sample.

    `opened`: a token was put in front. `cut`: stored tokens at the end that the model does not see. `closed`: a token
    was put at the end.
    """

    opened: bool
    cut: int
    closed: bool


@dataclass(frozen=True)
class Loader:
    """A rule with what it needs to know.

    Attributes:
        vocabulary: of the samples. rule: a name of `RULES`.
        max_seq_len: most tokens that the model is given, at least 2.
    """

    vocabulary: Vocabulary
    rule: str = "ettin"
    max_seq_len: int = UNCUT

    def __post_init__(self) -> None:
        rule_named(self.rule)
        if self.max_seq_len < 2:
            raise OrderError(
                f"max_seq_len {self.max_seq_len} has no room for the opening and the closing token",
                remedy="use the length of the samples",
            )

    @classmethod
    def of_run(cls, run: RunRecord | None) -> Loader:
        """The loader of a run, by what its `run.json` says.

        Runs from before the vocabulary was written there are ModernBERT's if their tokenizer was, and Ettin's rule is
        that of runs, and of data of others (None), that name none.

        Raises:
            OrderError: an older run with another tokenizer, or a rule that this version does not have.
        """
        if run is None:
            return cls(MODERNBERT)
        choice = run.recipe.get("loader") or {}
        name = choice.get("rule", "ettin")
        limit = choice.get("max_seq_len") or rule_named(name).max_seq_len(run.recipe["length"])
        return cls(vocabulary_of(run), name, limit)

    def seen(self, tokens: AnyTokens, kind: Kind) -> AnyTokens:
        """A stored sample as a model of that kind sees it.

        Args: tokens: ids of one sample, shape (n,), any integer type that holds the vocabulary. Never modified.
        Returns: shape (at most max_seq_len,), dtype of `tokens`; a view of `tokens` where nothing is put in.
        """
        return RULES[self.rule].apply(tokens, kind, self.max_seq_len, self.vocabulary)

    def edits(self, tokens: AnyTokens, kind: Kind) -> Edits:
        """What `seen` does to a sample, by comparing the two."""
        seen = self.seen(tokens, kind)
        opened = len(seen) > 0 and (len(tokens) == 0 or bool(seen[0] != tokens[0]))
        stored = len(seen) - opened  # of which the last may have been put there
        closed = stored > 0 and (stored > len(tokens) or bool(tokens[stored - 1] != seen[-1]))
        return Edits(opened, len(tokens) - (stored - closed), closed)


def vocabulary_of(run: RunRecord) -> Vocabulary:
    """The vocabulary that a run states.

    Raises `OrderError` for a run from before it was written there, of another tokenizer.
    """
    if run.vocabulary:
        return Vocabulary.from_json(run.vocabulary)
    digest = run.tokenizer["sha256"]
    if digest != MODERNBERT.digest:
        raise OrderError(
            "this run does not say which ids frame its samples",
            why=f"it was built before that was written into run.json, with the tokenizer {digest}",
            remedy="run the same `ettin-data build` again: it reuses the splits and writes run.json",
        )
    return MODERNBERT


def without_padding(tokens: AnyTokens, pad: int) -> AnyTokens:
    """The row without the padding that a collator put at its end; a view."""
    if len(tokens) == 0 or tokens[-1] != pad:
        return tokens
    kept = np.flatnonzero(tokens != pad)
    return tokens[: kept[-1] + 1] if len(kept) else tokens[:0]


def canonical(tokens: AnyTokens, vocabulary: Vocabulary, max_seq_len: int | None = None) -> AnyTokens:
    """What all forms of a sample share: no padding, no outer framing token, at most `max_seq_len` - 2 tokens.

    For every kind, `canonical(Loader(v, "ettin", m).seen(t, kind), v, m)` equals `canonical(t, v, m)`. A view.
    """
    tokens = without_padding(tokens, vocabulary.pad)
    start = 1 if len(tokens) and tokens[0] == vocabulary.open else 0
    end = len(tokens) - (1 if len(tokens) > start and tokens[-1] == vocabulary.close else 0)
    if max_seq_len is not None:
        end = min(end, start + max_seq_len - 2)
    return tokens[start:end]


@dataclass(frozen=True)
class Form:
    """Which form of a sample is meant: "stored", or as the loader gives it to an "encoder" or a "decoder"."""

    kind: FormKind
    loader: Loader

    def __str__(self) -> str:
        if self.kind == "stored":
            return "as stored"
        limit = self.loader.max_seq_len
        return f"as {self.kind}s see them{f' at max_seq_len {limit:,}' if limit < UNCUT else ''}"

    def apply(self, tokens: AnyTokens) -> AnyTokens:
        return tokens if self.kind == "stored" else self.loader.seen(tokens, self.kind)

    def keeps(self, first: AnyTokens, last: AnyTokens, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which samples come through unchanged, by their first and last tokens and their lengths; bool."""
        if self.kind == "stored":
            return np.ones(len(lengths), bool)
        loader = self.loader
        return RULES[loader.rule].keeps(first, last, lengths, self.kind, loader.max_seq_len, loader.vocabulary)
