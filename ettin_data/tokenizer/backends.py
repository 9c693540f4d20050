"""The engine of a tokenizer: the referee, the fastest accelerator that is proved for it, and portions of bounded size.

That an accelerator gives the referee's ids is an observation about one version and one tokenizer. For fastokens and
ModernBERT's it was made once and for all (100 MB of text, all code points, 3.4 million fuzz strings): it is used if the
vectors of `vectors` come out right in this process. For any other tokenizer it is made on the machine that uses it
(`proof`), with every accelerator that is installed, and the fastest of those without a difference is taken.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import TokenizerError
from ettin_data.tokenizer import proof
from ettin_data.tokenizer.files import MODERNBERT_SHA256, TokenizerFile, tokenizer_text
from ettin_data.tokenizer.libraries import ACCELERATORS, FlatEncoder, Library, Unusable, guarded, kept_as_text
from ettin_data.tokenizer.split_law import BETWEEN_LETTERS, SplitLaw, law_of, portions
from ettin_data.tokenizer.vectors import PLAIN, SPECIAL
from ettin_data.tokenizer.vocabulary import BERT, Frame, Tokens, Vocabulary, parsed_file, read_vocabulary, vocabulary_of

if TYPE_CHECKING:
    import tokenizers

FASTOKENS_VERSION = "0.3.5"
# Characters handed to a library at once. The referee needs about 120 bytes of memory for each (3.6 GB for a document of
# 32 MB); neither is faster with more.
PORTION = 1_000_000

Backend = Literal["auto", "fastokens", "gigatoken", "tokenizers"]
Encode = Callable[[list[str]], tuple[NDArray[np.uint32], NDArray[np.int64]]]
"""Texts -> ids end to end, and the number of ids of each text."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """The loaded libraries of one process for one tokenizer.

    Args:
        referee: `tokenizers`.
        fast: the accelerator, or None where none is to be used.
        note: why fast is used or not.
        vocabulary: ids by role, and their number.
        special_tokens_in_text: whether text like "[SEP]" becomes the special token.
        law: where long texts are cut.
        library: the name of what encodes.
    """

    referee: tokenizers.Tokenizer
    fast: FlatEncoder | None
    note: str
    vocabulary: Vocabulary
    special_tokens_in_text: bool
    law: SplitLaw
    library: str = "tokenizers"

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
            for portion, owners in portions(texts, PORTION, self.law):
                flat, lengths = call(portion)
                flats.append(flat.astype(self.dtype))
                np.add.at(totals, owners, lengths)
            return np.concatenate(flats), offsets_of(totals)
        except (UnicodeEncodeError, TypeError):
            _name_offender(texts)
            raise

    def encode_referee(self, texts: Sequence[str]) -> tuple[Tokens, NDArray[np.int64]]:
        """The same with the referee."""
        return self.encode(texts, referee=True)

    def call_fast(self, texts: list[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """One call of the accelerator: ids end to end (uint32) and the number of ids of each text (int64)."""
        if self.fast is None:
            raise RuntimeError(f"no accelerator is loaded: {self.note}")
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

    known = file.sha256 == MODERNBERT_SHA256 and (frame is None or frame == BERT)
    json_text = tokenizer_text(file)
    if known:  # without parsing 2 MB
        vocabulary, law = read_vocabulary(json_text, file.name, file.sha256), BETWEEN_LETTERS
    else:
        content = parsed_file(json_text, str(file.path))
        _require_certain(content, file.path)
        vocabulary, law = vocabulary_of(content, file.name, file.sha256, frame), law_of(content)
        if not special_tokens_in_text:
            json_text = kept_as_text(content, vocabulary.reserved) or json_text
    referee = _referee(file, json_text, special_tokens_in_text)
    if not special_tokens_in_text:
        _require_text_as_text(referee, vocabulary)
    engine = Engine(referee, None, "", vocabulary, special_tokens_in_text, law)
    if known and (failure := self_test(engine.call_referee, special_tokens_in_text)):
        raise TokenizerError(
            f"the installed tokenizers {metadata.version('tokenizers')} does not give ModernBERT's ids",
            why=failure,
            remedy="install the version that the constraints file names",
        )
    if backend == "tokenizers":
        return replace(engine, note="the recipe asks for the referee")
    found = _committed(json_text, engine) if known else _fastest(json_text, engine, backend)
    if backend not in ("auto", found.library):
        raise TokenizerError(
            f"{backend} cannot be used", why=found.note, remedy="set the backend to auto or tokenizers"
        )
    if found.fast is None:
        _log.warning("encoding with tokenizers, many times slower than an accelerator: %s", found.note)
    return found


def self_test(encode: Encode, special_tokens_in_text: bool) -> str | None:
    """The first difference between an encoder of ModernBERT's tokenizer and the vectors; None if there is none."""
    vectors = SPECIAL if special_tokens_in_text else PLAIN
    flat, lengths = encode([text for text, _ in vectors])
    limits = offsets_of(lengths)
    for i, (text, ids) in enumerate(vectors):
        if (got := flat[limits[i] : limits[i + 1]].tolist()) != ids:
            return f"{text!r} gives {got}, expected {ids}"
    return None


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Limits of parts that lie end to end: 0 and the running sums, int64 of shape (len(lengths) + 1,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def prepared_text(file: TokenizerFile, vocabulary: Vocabulary) -> str:
    """The JSON text that every library is given where text stays text."""
    text = tokenizer_text(file)
    return kept_as_text(parsed_file(text, str(file.path)), vocabulary.reserved) or text


def _require_certain(content: Mapping[str, Any], path: Path) -> None:
    """Raise for a tokenizer that draws: nothing made with it could be made again."""
    if dropout := content["model"].get("dropout"):
        raise TokenizerError(
            "this tokenizer cuts words at random",
            where=path,
            why=f"its model has a dropout of {dropout}: a text has other ids each time",
            remedy="set dropout to null in the file, which changes its digest",
        )


def _referee(file: TokenizerFile, text: str, special_tokens_in_text: bool) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        referee = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # what the library raises has no narrower class
        raise TokenizerError(
            "this file is no tokenizer", where=file.path, why=error, remedy="name a tokenizer.json of `tokenizers`"
        ) from error
    referee.encode_special_tokens = not special_tokens_in_text
    referee.no_truncation()
    referee.no_padding()
    return referee


def _committed(json_text: str, engine: Engine) -> Engine:
    """The engine with fastokens, if what is known of its exactness for ModernBERT's tokenizer applies here."""
    fastokens = ACCELERATORS[0]
    if fastokens.version != FASTOKENS_VERSION:
        return replace(engine, note=f"fastokens {fastokens.version} is installed, proven is {FASTOKENS_VERSION}")
    try:
        found = replace(engine, fast=guarded(fastokens.load, json_text, ()), library=fastokens.name)
    except Unusable as error:  # not installed on this platform, or its native part fails
        return replace(engine, note=f"fastokens cannot be loaded: {error}")
    if failure := self_test(found.call_fast, engine.special_tokens_in_text):
        return replace(engine, note=f"fastokens fails its start-up test: {failure}")
    return replace(found, note="proven and tested")


def _fastest(json_text: str, engine: Engine, backend: Backend) -> Engine:
    """The engine with the fastest accelerator that is proved for its tokenizer, or the one that is asked for.

    What the cache knows costs no loading: of several, only the fastest is loaded.
    """
    loaded: dict[str, Engine] = {}
    notes: list[str] = []
    proofs: list[tuple[proof.Proof, Library]] = []
    for library in ACCELERATORS:
        if backend not in ("auto", library.name):
            continue
        of = proof.depends_on(json_text, engine.special_tokens_in_text, library)
        done = proof.kept(of)
        if done is None:
            tried = loaded[library.name] = with_library(json_text, engine, library)
            if tried.fast is None:
                notes.append(tried.note)
                continue
            done = proof.prove(tried, library, json_text)
            proof.keep(of, done)
        if done.difference is not None or (done.speed < 1 and backend == "auto"):
            notes.append(done.said())
        else:
            proofs.append((done, library))
    for done, library in sorted(proofs, key=lambda pair: -pair[0].speed):
        found = loaded.get(library.name) or with_library(json_text, engine, library)
        if found.fast is not None:
            return replace(found, note=done.said())
        notes.append(found.note)
    return replace(engine, note="; ".join(notes))


def with_library(json_text: str, engine: Engine, library: Library) -> Engine:
    """The engine with an accelerator, unproved; if it cannot be loaded, without one, and its note says why."""
    if library.version is None:
        return replace(engine, note=f"{library.name} is not installed")
    added = [] if engine.special_tokens_in_text else json.loads(json_text).get("added_tokens") or []
    try:
        encoder = guarded(library.load, json_text, [token["content"] for token in added if token.get("special")])
    except Unusable as error:
        return replace(engine, note=f"{library.name} {library.version} cannot be loaded: {error}")
    return replace(engine, fast=encoder, library=library.name)


def _require_text_as_text(referee: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    """Raise where text becomes a reserved token all the same (ARCHITECTURE 5.1): one that is no added token."""
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
