"""Says in what way a published row differs from the stored sample that it resembles most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ettin_data.base.ngrams import ngram_hashes
from ettin_data.order.loader_edits import Form, canonical
from ettin_data.order.loader_edits import Kind as LoaderKind
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

GRAM = 8
"""Tokens of the n-grams by which a row is recognised in a sample."""

Kind = Literal["other_form", "special_tokens", "truncated", "masked", "changed_tokens", "chunk_borders"]


@dataclass(frozen=True)
class Edit:
    """How a row came from a sample, in a word and in a sentence."""

    kind: Kind
    text: str


def describe_edit(row: AnyTokens, stored: AnyTokens, form: Form) -> Edit | None:
    """What makes the sample `stored`, in a form, into the published `row`; None when they have little in common."""
    seen, words = form.apply(stored), form.loader.vocabulary
    if np.array_equal(row, stored):
        return Edit("other_form", f"as stored, not {form}")
    if form.kind != "stored":
        other: LoaderKind = "decoder" if form.kind == "encoder" else "encoder"
        if np.array_equal(row, form.loader.seen(stored, other)):
            return Edit("other_form", f"as {other}s see it, not {form}")
    if len(row) == len(seen):
        edit = _same_length(row, seen, words) or _special_tokens(row, seen, words)
    else:
        edit = _truncated(row, seen, words) or _special_tokens(row, seen, words) or _moved(row, seen)
    return edit or _similar(canonical(row, words), canonical(seen, words))


def _same_length(row: AnyTokens, seen: AnyTokens, words: Vocabulary) -> Edit | None:
    """Tokens that became others in their places."""
    differ = np.flatnonzero(row != seen)
    at = int(differ[0]) if len(differ) else 0
    if at == len(row) - 1 and row[at] == words.close:
        return Edit("special_tokens", f"{words.frame.close} stands over the last of {len(seen):,} tokens")
    if words.mask is not None and (row[differ] == words.mask).all():
        return Edit("masked", f"{len(differ)} of {len(seen):,} tokens are {words.frame.mask}")
    if len(differ) <= max(1, len(seen) // 4):
        text = f"{len(differ)} of {len(seen):,} tokens changed, first token {at}: {seen[at]} became {row[at]}"
        return Edit("changed_tokens", text)
    return None


def _truncated(row: AnyTokens, seen: AnyTokens, words: Vocabulary) -> Edit | None:
    kept, last = len(row), row[-1:] if len(row) else row
    if kept >= len(seen) or not np.array_equal(row[:-1], seen[: max(kept - 1, 0)]):
        return None
    if np.array_equal(last, seen[kept - 1 : kept]):
        lost = f" (only its {words.frame.close} is lost)" if kept == len(seen) - 1 and seen[-1] == words.close else ""
        return Edit("truncated", f"cut after {kept:,} of {len(seen):,} tokens{lost}")
    if last != words.close:
        return None
    return Edit("truncated", f"cut after {kept - 1:,} of {len(seen):,} tokens, then {words.frame.close}")


def _special_tokens(row: AnyTokens, seen: AnyTokens, words: Vocabulary) -> Edit | None:
    a, b = canonical(row, words), canonical(seen, words)
    if np.array_equal(a, b):
        frame = words.frame
        return Edit("special_tokens", f"only {frame.open}, {frame.close} or {frame.pad} differ")
    if len(a) < len(b) and np.array_equal(a, b[: len(a)]):
        return Edit("truncated", f"cut after {len(a):,} of {len(b):,} tokens of text, with other special tokens")
    return None


def _moved(row: AnyTokens, seen: AnyTokens) -> Edit | None:
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


def _similar(a: AnyTokens, b: AnyTokens) -> Edit | None:
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


def _longest_shared(a: AnyTokens, b: AnyTokens) -> tuple[int, int, int] | None:
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
