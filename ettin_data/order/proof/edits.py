"""Says in what way a published row differs from the stored sample that it resembles most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ettin_data.base.ngrams import ngram_hashes
from ettin_data.order.loader_edits import SEP, Form, as_seen, canonical
from ettin_data.order.loader_edits import Kind as LoaderKind

MASK = 50284
GRAM = 8
"""Tokens of the n-grams by which a row is recognised in a sample."""

Kind = Literal["other_form", "special_tokens", "truncated", "masked", "changed_tokens", "chunk_borders"]


@dataclass(frozen=True)
class Edit:
    """How a row came from a sample, in a word and in a sentence."""

    kind: Kind
    text: str


def describe_edit(row: np.ndarray, stored: np.ndarray, form: Form = Form()) -> Edit | None:
    """What makes the sample `stored`, in a form, into the published `row`; None when they have little in common."""
    seen = form.apply(stored)
    if np.array_equal(row, stored):
        return Edit("other_form", f"as stored, not {form}")
    if form.kind != "stored":
        other: LoaderKind = "decoder" if form.kind == "encoder" else "encoder"
        if np.array_equal(row, as_seen(stored, other, form.max_seq_len)):
            return Edit("other_form", f"as {other}s see it, not {form}")
    if len(row) == len(seen):
        edit = _same_length(row, seen) or _special_tokens(row, seen)
    else:
        edit = _truncated(row, seen) or _special_tokens(row, seen) or _moved(row, seen)
    return edit or _similar(canonical(row), canonical(seen))


def _same_length(row: np.ndarray, seen: np.ndarray) -> Edit | None:
    """Tokens that became others in their places."""
    differ = np.flatnonzero(row != seen)
    at = int(differ[0]) if len(differ) else 0
    if at == len(row) - 1 and row[at] == SEP:
        return Edit("special_tokens", f"[SEP] stands over the last of {len(seen):,} tokens")
    if (row[differ] == MASK).all():
        return Edit("masked", f"{len(differ)} of {len(seen):,} tokens are [MASK]")
    if len(differ) <= max(1, len(seen) // 4):
        text = f"{len(differ)} of {len(seen):,} tokens changed, first token {at}: {seen[at]} became {row[at]}"
        return Edit("changed_tokens", text)
    return None


def _truncated(row: np.ndarray, seen: np.ndarray) -> Edit | None:
    kept, last = len(row), row[-1:] if len(row) else row
    if kept >= len(seen) or not np.array_equal(row[:-1], seen[: max(kept - 1, 0)]):
        return None
    if np.array_equal(last, seen[kept - 1 : kept]):
        lost = " (only its [SEP] is lost)" if kept == len(seen) - 1 and seen[-1] == SEP else ""
        return Edit("truncated", f"cut after {kept:,} of {len(seen):,} tokens{lost}")
    return Edit("truncated", f"cut after {kept - 1:,} of {len(seen):,} tokens, then [SEP]") if last == SEP else None


def _special_tokens(row: np.ndarray, seen: np.ndarray) -> Edit | None:
    a, b = canonical(row), canonical(seen)
    if np.array_equal(a, b):
        return Edit("special_tokens", "only [CLS], [SEP] or [PAD] differ")
    if len(a) < len(b) and np.array_equal(a, b[: len(a)]):
        return Edit("truncated", f"cut after {len(a):,} of {len(b):,} tokens of text, with other special tokens")
    return None


def _moved(row: np.ndarray, seen: np.ndarray) -> Edit | None:
    """Tokens put in or taken out at one place, a quarter of the sample at most."""
    size = min(len(row), len(seen))
    count, head = abs(len(row) - len(seen)), row[:size] == seen[:size]
    prefix = size if head.all() else int(head.argmin())
    rest = size - prefix
    if count > max(1, len(seen) // 4) or not np.array_equal(row[len(row) - rest :], seen[len(seen) - rest :]):
        return None
    word = "tokens" if count > 1 else "token"
    how = "put in" if len(row) > len(seen) else "taken out"
    return Edit("changed_tokens", f"{count:,} {word} {how} before token {prefix:,} of {len(seen):,}")


def _similar(a: np.ndarray, b: np.ndarray) -> Edit | None:
    """Rows that share a run of tokens and are otherwise different."""
    shared = _longest_shared(a, b)
    if shared is None:
        return None
    begin_a, begin_b, length = shared
    if begin_a == begin_b == 0:
        return Edit("changed_tokens", f"the first {length:,} of {len(b):,} tokens are the same, then they differ")
    if length < max(GRAM, len(a) // 8):
        return None
    return Edit(
        "chunk_borders",
        f"{length:,} tokens from token {begin_b:,} of the sample stand from token {begin_a:,} of the row",
    )


def _longest_shared(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int] | None:
    """Start in a, start in b and length of the longest common run that has at least one n-gram."""
    left, right = ngram_hashes(a, GRAM), ngram_hashes(b, GRAM)
    places = {int(value): i for i, value in reversed(list(enumerate(right.tolist())))}
    best, covered = None, -1
    for i, value in enumerate(left.tolist()):
        if i < covered or value not in places:
            continue
        j, length = places[value], 0
        longest = min(len(a) - i, len(b) - j)
        same = a[i : i + longest] == b[j : j + longest]
        length = longest if same.all() else int(same.argmin())
        covered = i + max(length - GRAM, 0)
        if length >= GRAM and (best is None or length > best[2]):
            best = (i, j, length)
    return best
