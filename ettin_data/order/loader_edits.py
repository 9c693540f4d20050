"""The edits that the trainer's loader makes to a stored sample before the model sees it (design 5.6), in one place.

Used by the trainer, the export of the order, its verification and the viewer, so that they cannot disagree.

Upstream: `NoStreamingDataset.__getitem__` in ModernBERT's `src/text_data.py` and the fork that trained Ettin. A sample
in the published layout (`[CLS] … [SEP]`, design 5.2) comes through unchanged unless it is longer than `max_seq_len`, as
the 8,000-token samples of phases 2 and 3 are with `max_seq_len: 7999`. Upstream's public versions cut such a sample
without putting `[SEP]` back, which is the `decoder` kind here; `canonical` makes all of these equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

CLS, SEP, PAD = 50281, 50282, 50283  # ModernBERT's tokenizer, design 5.1

UNCUT = 1 << 30
"""A `max_seq_len` that cuts nothing."""

Kind = Literal["encoder", "decoder"]
FormKind = Literal["stored", "encoder", "decoder"]


def as_seen(tokens: np.ndarray, kind: Kind = "encoder", max_seq_len: int = 1024) -> np.ndarray:
    """A stored sample as the model sees it: `[CLS]` in front, cut to `max_seq_len`, for encoders `[SEP]` at the end.

    Args:
        tokens: ids of one sample, shape (n,), any integer type that holds 50282. Never modified.
        kind: "encoder" forces the last token to be `[SEP]`; "decoder" leaves the end as it is.
        max_seq_len: most tokens that the model is given, at least 2.

    Returns: shape (at most max_seq_len,), dtype of `tokens`; a view of `tokens` where nothing is put in.
    """
    if max_seq_len < 2:
        raise ValueError(f"max_seq_len {max_seq_len} has no room for [CLS] and [SEP]")
    if len(tokens) == 0 or tokens[0] != CLS:
        tokens = np.concatenate([np.array([CLS], dtype=tokens.dtype), tokens[: max_seq_len - 1]])
    tokens = tokens[:max_seq_len]
    if kind == "encoder" and tokens[-1] != SEP:
        tokens = np.concatenate([tokens[: max_seq_len - 1], np.array([SEP], dtype=tokens.dtype)])
    return tokens


@dataclass(frozen=True)
class Edits:
    """What `as_seen` does to one sample.

    `cls_inserted`: `[CLS]` was put in front. `cut`: stored tokens at the end that the model does not see.
    `sep_forced`: `[SEP]` was put at the end.
    """

    cls_inserted: bool
    cut: int
    sep_forced: bool


def edits(tokens: np.ndarray, kind: Kind = "encoder", max_seq_len: int = 1024) -> Edits:
    """What `as_seen` with these arguments does to a sample."""
    seen = as_seen(tokens, kind, max_seq_len)
    inserted = len(tokens) == 0 or bool(tokens[0] != CLS)
    stored = len(seen) - inserted  # of which the last may be a forced [SEP]
    forced = bool(kind == "encoder" and (stored > len(tokens) or (stored > 0 and tokens[stored - 1] != SEP)))
    return Edits(inserted, len(tokens) - (stored - forced), forced)


def without_padding(tokens: np.ndarray) -> np.ndarray:
    """The row without the `[PAD]`s that a collator put at its end; a view."""
    if len(tokens) == 0 or tokens[-1] != PAD:
        return tokens
    kept = np.flatnonzero(tokens != PAD)
    return tokens[: kept[-1] + 1] if len(kept) else tokens[:0]


def canonical(tokens: np.ndarray, max_seq_len: int | None = None) -> np.ndarray:
    """What all forms of a sample share: no padding, no outer `[CLS]` or `[SEP]`, at most `max_seq_len` - 2 tokens.

    For every `kind`, `canonical(as_seen(t, kind, m), m)` equals `canonical(t, m)`. A view of `tokens`.
    """
    tokens = without_padding(tokens)
    start = 1 if len(tokens) and tokens[0] == CLS else 0
    end = len(tokens) - (1 if len(tokens) > start and tokens[-1] == SEP else 0)
    if max_seq_len is not None:
        end = min(end, start + max_seq_len - 2)
    return tokens[start:end]


@dataclass(frozen=True)
class Form:
    """Which form of a sample is meant: "stored", or as the loader of an "encoder" or "decoder" gives it.

    `max_seq_len` belongs to the two latter and is not used for "stored".
    """

    kind: FormKind = "stored"
    max_seq_len: int = 1024

    def __str__(self) -> str:
        if self.kind == "stored":
            return "as stored"
        limit = f" at max_seq_len {self.max_seq_len:,}" if self.max_seq_len < UNCUT else ""
        return f"as {self.kind}s see them{limit}"

    def apply(self, tokens: np.ndarray) -> np.ndarray:
        return tokens if self.kind == "stored" else as_seen(tokens, self.kind, self.max_seq_len)
