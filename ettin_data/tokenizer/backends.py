"""The two libraries that encode, loaded, tested and fed in bounded portions.

`tokenizers` is the referee: always loaded, always right. `fastokens` is the accelerator: exactness is an observation
about one version and one tokenizer (100 MB of text, all code points, 3.4 million fuzz strings), so it is loaded for
those only, and only if the vectors of `tokenizer_vectors` come out right in this process.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import TokenizerError
from ettin_data.tokenizer.files import MODERNBERT_SHA256, TokenizerFile, tokenizer_text
from ettin_data.tokenizer.vectors import PLAIN, SPECIAL
from ettin_data.tokenizer.vocabulary import Frame, Tokens, Vocabulary, read_vocabulary

if TYPE_CHECKING:
    import fastokens
    import tokenizers

FASTOKENS_VERSION = "0.3.5"
# Characters handed to a library at once. The referee needs about 120 bytes of memory for each (3.6 GB for a document of
# 32 MB); neither is faster with more.
PORTION = 1_000_000

Backend = Literal["auto", "fastokens", "tokenizers"]
Encode = Callable[[list[str]], tuple[NDArray[np.uint32], NDArray[np.int64]]]
"""Texts -> ids end to end, and the number of ids of each text."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """The loaded libraries of one process for one tokenizer.

    Args:
        referee: `tokenizers`.
        fast: fastokens, or None where it is not to be used.
        note: why fast is used or not.
        vocabulary: ids by role, and their number.
        special_tokens_in_text: whether text like "[SEP]" becomes the special token.
        may_cut: whether `_CUT` holds for this tokenizer.
    """

    referee: tokenizers.Tokenizer
    fast: fastokens.Tokenizer | None
    note: str
    vocabulary: Vocabulary
    special_tokens_in_text: bool
    may_cut: bool

    @property
    def dtype(self) -> np.dtype[np.uint16 | np.uint32]:
        """Of ids: uint16 when all fit, else uint32."""
        return np.dtype(self.vocabulary.dtype)

    def encode(self, texts: Sequence[str], *, referee: bool = False) -> tuple[Tokens, NDArray[np.int64]]:
        """Ids of all texts end to end, of `dtype`, and their limits, int64 of shape (len(texts) + 1,).

        Raises `ValueError` for a text with a lone surrogate, `TypeError` for what is no text.
        """
        call = self.call_referee if referee or self.fast is None else self.call_fast
        try:
            if sum(map(len, texts)) <= PORTION:
                flat, lengths = call(list(texts))
                return flat.astype(self.dtype), offsets_of(lengths)
            flats, totals = [], np.zeros(len(texts), np.int64)
            for portion, owners in portions(texts, PORTION, self.may_cut):
                flat, lengths = call(portion)
                flats.append(flat.astype(self.dtype))
                np.add.at(totals, owners, lengths)
            return np.concatenate(flats), offsets_of(totals)
        except (UnicodeEncodeError, TypeError):
            _name_offender(texts)
            raise

    def call_fast(self, texts: list[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """One call of fastokens: ids end to end (uint32) and the number of ids of each text (int64)."""
        if self.fast is None:
            raise RuntimeError(f"fastokens is not loaded: {self.note}")
        ids, offsets = self.fast.encode_batch_flat(texts, split_special_tokens=not self.special_tokens_in_text)
        return np.frombuffer(ids, "<u4"), np.diff(np.frombuffer(offsets, "<i8"))

    def call_referee(self, texts: list[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """One call of `tokenizers`, of the same form."""
        encodings = self.referee.encode_batch_fast(texts, add_special_tokens=False)
        parts = [np.array(encoding.ids, np.uint32) for encoding in encodings]
        return np.concatenate([np.empty(0, np.uint32), *parts]), np.array([len(part) for part in parts], np.int64)


@lru_cache(maxsize=8)
def load(file: TokenizerFile, backend: Backend, special_tokens_in_text: bool, frame: Frame | None = None) -> Engine:
    """Load the libraries for a tokenizer; once in a process, for all the splits that it handles.

    Raises:
        TokenizerError: the file is gone, is no tokenizer or lacks a token of its frame, text becomes a reserved token,
            or the demanded backend cannot be used.
    """
    # One thread each: parallel work is done by processes, and threads of a library do not survive a fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
    import tokenizers

    known = file.sha256 == MODERNBERT_SHA256
    json_text = tokenizer_text(file)
    try:
        referee = tokenizers.Tokenizer.from_str(json_text)
    except Exception as error:  # what the library raises has no narrower class
        raise TokenizerError(
            "this file is no tokenizer", where=file.path, why=error, remedy="name a tokenizer.json of `tokenizers`"
        ) from error
    vocabulary = read_vocabulary(json_text, file.name, file.sha256, frame)
    referee.encode_special_tokens = not special_tokens_in_text
    referee.no_truncation()
    if not special_tokens_in_text:
        _keep_text_as_text(referee, vocabulary)
    engine = Engine(referee, None, "", vocabulary, special_tokens_in_text, may_cut=known)
    if known and (failure := self_test(engine.call_referee, special_tokens_in_text)):
        raise TokenizerError(
            f"the installed tokenizers {metadata.version('tokenizers')} does not give ModernBERT's ids",
            why=failure,
            remedy="install the version that the constraints file names",
        )
    if backend == "tokenizers":
        return replace(engine, note="the recipe asks for the referee")
    fast, note = _load_fast(file, json_text, engine)
    if fast is None and backend == "fastokens":
        raise TokenizerError("fastokens cannot be used", why=note, remedy="set the backend to auto or tokenizers")
    if fast is None:
        _log.warning("encoding with tokenizers, some thirty times slower than fastokens: %s", note)
    return replace(engine, fast=fast, note=note)


def self_test(encode: Encode, special_tokens_in_text: bool) -> str | None:
    """The first difference between an encoder of ModernBERT's tokenizer and the vectors; None if there is none."""
    vectors = SPECIAL if special_tokens_in_text else PLAIN
    flat, lengths = encode([text for text, _ in vectors])
    limits = offsets_of(lengths)
    for i, (text, ids) in enumerate(vectors):
        if (got := flat[limits[i] : limits[i + 1]].tolist()) != ids:
            return f"{text!r} gives {got}, expected {ids}"
    return None


def portions(texts: Sequence[str], limit: int, may_cut: bool) -> Iterator[tuple[list[str], list[int]]]:
    """Groups of about `limit` characters of texts or, if `may_cut`, of their pieces, and which text each belongs to."""
    group: list[str] = []
    owners: list[int] = []
    size = 0
    for i, text in enumerate(texts):
        for piece in pieces(text, limit) if may_cut else (text,):
            if group and size + len(piece) > limit:
                yield group, owners
                group, owners, size = [], [], 0
            group.append(piece)
            owners.append(i)
            size += len(piece)
    if group:
        yield group, owners


# Where a text may be cut without changing its ids under ModernBERT's tokenizer: before a space or newline that stands
# alone between ASCII letters. The GPT-2 regex always ends a match there (letters, then white space) and starts the next
# with that white space; neither character composes with a neighbour under NFC; no added token holds letter, white
# space, letter; and [MASK], which swallows the white space before it, does not start with a letter.
_CUT = re.compile(r"[A-Za-z](?=[ \n][A-Za-z])")


def pieces(text: str, limit: int) -> Iterator[str]:
    """Parts of a text whose ids, end to end, are those of the text: `limit` characters each and on to the next cut."""
    start = 0
    while len(text) - start > limit and (match := _CUT.search(text, start + limit - 1)):
        yield text[start : match.end()]
        start = match.end()
    yield text[start:]


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Limits of parts that lie end to end: 0 and the running sums, int64 of shape (len(lengths) + 1,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _load_fast(file: TokenizerFile, json_text: str, engine: Engine) -> tuple[fastokens.Tokenizer | None, str]:
    """fastokens if all that is known about its exactness applies here, and the reason."""
    if file.sha256 != MODERNBERT_SHA256:
        return None, "fastokens is proven for ModernBERT's tokenizer only"
    try:
        import fastokens

        if (version := metadata.version("fastokens")) != FASTOKENS_VERSION:
            return None, f"fastokens {version} is installed, proven is {FASTOKENS_VERSION}"
        fast = fastokens.Tokenizer.from_json_str(json_text)
    except Exception as error:  # not installed on this platform, or its native part fails
        return None, f"fastokens cannot be loaded: {error}"
    failure = self_test(replace(engine, fast=fast).call_fast, engine.special_tokens_in_text)
    return (None, f"fastokens fails its start-up test: {failure}") if failure else (fast, "proven and tested")


def _keep_text_as_text(referee: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    """See to it that no text becomes a reserved token (ARCHITECTURE 5.1); raise where the tokenizer cannot be kept.

    `tokenizers` leaves only those added tokens alone that are marked as special; in some files the mask is not.
    """
    from tokenizers import AddedToken

    added = referee.get_added_tokens_decoder()
    for id_ in vocabulary.reserved:
        if id_ in added and not added[id_].special:
            referee.add_special_tokens([AddedToken(added[id_].content, normalized=added[id_].normalized, special=True)])
    names = {id_: str(referee.id_to_token(id_)) for id_ in vocabulary.reserved if id_ != vocabulary.unknown}
    for (id_, name), encoding in zip(
        names.items(), referee.encode_batch(list(names.values()), add_special_tokens=False), strict=True
    ):
        if id_ in encoding.ids:
            raise TokenizerError(
                f"the text {name!r} becomes the token {id_}, which frames, pads or masks",
                where=vocabulary.name,
                why="a document that says it would look like the end of a sample, or a token to be guessed",
                remedy="name added tokens in tokenizer.frame, or mark this one as added and special in the file",
            )


def _name_offender(texts: Sequence[str]) -> None:
    """Raise for the first text that cannot be encoded at all: the libraries do not say which."""
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {i} is of type {type(text).__name__}, not str")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text {i} holds a lone surrogate, U+{ord(text[error.start]):04X} at character {error.start}"
            ) from None
