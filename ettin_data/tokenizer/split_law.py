"""Where a text may be cut without changing its ids, so that a document of any length is encoded in bounded memory.

A law is a property of one tokenizer, and it is proved from its file before it is used; where nothing can be proved,
texts stay whole. There are two proofs:

* by the split expression. A byte-level tokenizer that cuts with GPT-2's expression, or with that of GPT-4 (Llama 3,
  dolma2), always ends a match between an ASCII letter and a space or newline that another letter follows, and begins
  the next match with that white space. Neither composes with a neighbour under NFC.
* by the vocabulary. Where a tokenizer merges whole texts (SentencePiece's way, Gemma 2), a merge makes an entry of the
  vocabulary. If no entry has a space mark after something else, no merge ever crosses from a word to the space behind
  it, and a text may be cut there; if no entry mixes newlines (tabs) with anything, around runs of newlines (tabs).

In both cases no added token may hold such a place, or swallow the white space beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARK = "\u2581"
"""What stands for a space in the entries of SentencePiece's vocabularies."""

_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_EXPRESSIONS = frozenset({_GPT4, _GPT4.replace("{1,3}", "")})  # the second is Qwen's: one digit at a time


@dataclass(frozen=True)
class SplitLaw:
    """Where a text may be cut: behind each match of an expression.

    Attributes:
        name: for people, with what was proved.
        cut: None where nothing was proved, and a text stays whole.
    """

    name: str
    cut: re.Pattern[str] | None

    def pieces(self, text: str, limit: int) -> Iterator[str]:
        """Parts of a text whose ids, end to end, are its own: `limit` characters each and on to the next cut."""
        start = 0
        while self.cut and len(text) - start > limit and (match := self.cut.search(text, start + limit - 1)):
            yield text[start : match.end()]
            start = match.end()
        yield text[start:]


WHOLE = SplitLaw("texts stay whole", None)
_BETWEEN_LETTERS = r"[A-Za-z](?=[ \n][A-Za-z])"
BETWEEN_LETTERS = SplitLaw("before a space or newline between ASCII letters", re.compile(_BETWEEN_LETTERS))
"""ModernBERT's and, with its last part proved by `law_of`, that of other byte-level tokenizers."""


def law_of(file: Mapping[str, Any]) -> SplitLaw:
    """The law that can be proved from a parsed `tokenizer.json`; `WHOLE` where none can."""
    model, added = file["model"], [token for token in file.get("added_tokens") or () if token.get("content")]
    if model.get("type") != "BPE" or model.get("dropout") or any(t.get("single_word") for t in added):
        return WHOLE
    swallows = [t["content"] for t in added if t.get("rstrip")], [t["content"] for t in added if t.get("lstrip")]
    contents = [str(token["content"]) for token in added]
    if _splits_like_gpt(file):
        eats = any(text[-1:].isalpha() for text in swallows[0]) or any(text[:1].isalpha() for text in swallows[1])
        return WHOLE if eats or _any(_BETWEEN_LETTERS, contents) else BETWEEN_LETTERS
    if _merges_whole_texts(file) and not any(swallows):
        return _by_vocabulary(list(model["vocab"]), contents)
    return WHOLE


def _splits_like_gpt(file: Mapping[str, Any]) -> bool:
    """Whether text goes to a byte-level BPE through one of the known split expressions, and through nothing else."""
    before, normalizer = file.get("pre_tokenizer") or {}, file.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        return False
    steps = before.get("pretokenizers", []) if before.get("type") == "Sequence" else [before]
    *first, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True):
        return False
    if not first:
        return bool(last.get("use_regex", True))  # GPT-2's is built into the step
    split = first[0]
    return (
        len(first) == 1
        and not last.get("use_regex", True)
        and split.get("type") == "Split"
        and split.get("pattern", {}).get("Regex") in _EXPRESSIONS
        and (split.get("behavior"), bool(split.get("invert"))) in {("Isolated", False), ("Removed", True)}
    )


def _merges_whole_texts(file: Mapping[str, Any]) -> bool:
    """Whether spaces become marks and the BPE then gets the text between added tokens in one piece."""
    model, normalizer, before = file["model"], file.get("normalizer") or {}, file.get("pre_tokenizer")
    to_mark = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    on_nothing = before is None or (before.get("type") == "Split" and before.get("pattern") == {"String": " "})
    affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    # With `ignore_merges` a piece that is an entry is not merged: a cut would make entries of parts.
    return normalizer == to_mark and on_nothing and not affixes and not model.get("ignore_merges")


def _by_vocabulary(entries: Sequence[str], added: Sequence[str]) -> SplitLaw:
    """The cuts that no entry and no added token lies across.

    What stands beside a cut has to be an entry of its own: unknown characters are fused with their neighbours.
    """
    known, allowed = set(entries), {}
    if MARK in known and not _any(rf"[^{MARK}]{MARK}", entries) and not _any(rf"[^ {MARK}][ {MARK}]", added):
        allowed["before spaces that follow something else"] = rf"[^ {MARK}](?= )"
    for character, name in (("\n", "newlines"), ("\t", "tabs")):
        mixed = rf"{character}[^{character}]|[^{character}]{character}"
        if character in known and not _any(mixed, entries) and not _any(mixed, added):
            allowed[f"around runs of {name}"] = f"{character}(?=[^{character}])|[^{character}](?={character})"
    return SplitLaw(", ".join(allowed), re.compile("|".join(allowed.values()))) if allowed else WHOLE


def _any(pattern: str, texts: Iterable[str]) -> bool:
    return any(map(re.compile(pattern).search, texts))


def portions(texts: Sequence[str], limit: int, law: SplitLaw) -> Iterator[tuple[list[str], list[int]]]:
    """Groups of about `limit` characters of texts, or of their pieces under a law, and which text each belongs to."""
    group: list[str] = []
    owners: list[int] = []
    size = 0
    for i, text in enumerate(texts):
        for piece in law.pieces(text, limit):
            if group and size + len(piece) > limit:
                yield group, owners
                group, owners, size = [], [], 0
            group.append(piece)
            owners.append(i)
            size += len(piece)
    if group:
        yield group, owners
