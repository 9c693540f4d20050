"""Text to token ids: fast, and provably the same as the reference implementation.

An accelerator gives the ids of `tokenizers`, the referee, many times faster; that it does is an observation, not a
promise. So one is used only when

* for this tokenizer and this version it was compared: for ModernBERT's once and for all, and the start-up vectors come
  out right; for any other on this machine (`backends`, `proof`);
* a keyed sample of the documents of each split, at least one, gives the same ids with the referee (`CheckedEncoder`).
  The first difference raises `BackendMismatch`; the split is then made again with `with_backend("tokenizers")`.

Ids are without the opening and closing token: those belong to samples (ARCHITECTURE 5.2), not to documents. Where the
JSON comes from is `files`' business, what its ids mean that of `vocabulary`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import document_keys, draws
from ettin_data.base.errors import EttinError, TokenizerError
from ettin_data.tokenizer.backends import Backend, Engine, load
from ettin_data.tokenizer.files import MODERNBERT_SHA256, TokenizerFile, resolve
from ettin_data.tokenizer.vocabulary import AnyTokens, Frame, Tokens, Vocabulary

__all__ = [
    "MODERNBERT_SHA256", "Backend", "BackendMismatch", "CheckedEncoder", "Tokenizer", "TokenizerFile", "resolve",
]  # fmt: skip


class BackendMismatch(EttinError):
    """The accelerator and the referee disagree about a document."""


@dataclass(frozen=True)
class Tokenizer:
    """An encoder and decoder, picklable: each process loads the libraries on first use and keeps them for all splits.

    Args:
        file: the resolved `tokenizer.json`.
        backend: `auto` uses the fastest accelerator that is proven, else the referee; a name demands that library.
        special_tokens_in_text: whether text like "[SEP]" or "<|endoftext|>" becomes the special token; by default it
            stays text (ARCHITECTURE 5.1), and so does every other token that `vocabulary.marks` takes for no text. The
            remaining added tokens (runs of spaces, `|||IP_ADDRESS|||`) are vocabulary and are matched either way.
        check_rate: share of the documents that a `CheckedEncoder` encodes with the referee as well.
        frame: the tokens with a role; None takes those of a known file, else ModernBERT's names.

    Raises:
        TokenizerError: an argument is wrong; or, on first use, the file is gone, is no tokenizer or lacks a token of
            the frame, text becomes a reserved token, or the demanded backend cannot be used.
    """

    file: TokenizerFile
    backend: Backend = "auto"
    special_tokens_in_text: bool = False
    check_rate: float = 1e-4
    frame: Frame | None = None

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            names = ", ".join(get_args(Backend))
            raise TokenizerError(f"unknown backend {self.backend!r}", remedy=f"use one of {names}")
        if not 0.0 <= self.check_rate <= 1.0:
            raise TokenizerError(f"check_rate {self.check_rate!r} is not a share", remedy="use a number from 0 to 1")

    @property
    def digest(self) -> str:
        """SHA-256 of the `tokenizer.json`: the identity of the tokenizer."""
        return self.file.sha256

    @property
    def vocabulary(self) -> Vocabulary:
        """Ids by role, and their number."""
        return self._engine.vocabulary

    @property
    def dtype(self) -> np.dtype[np.uint16 | np.uint32]:
        """Of ids: uint16 when the vocabulary fits, else uint32."""
        return self._engine.dtype

    @property
    def active_backend(self) -> str:
        """The library that encodes in this process."""
        return self._engine.library

    def describe(self) -> dict[str, Any]:
        """What encodes and where it comes from, for `run.json` and the command line."""
        return {
            "sha256": self.digest,
            "origin": self.file.origin,
            "vocab_size": self.vocabulary.size,
            "special_tokens_in_text": self.special_tokens_in_text,
            "backend": self.active_backend,
            "backend_version": metadata.version(self.active_backend),
            "backend_note": self._engine.note,
            "referee_version": metadata.version("tokenizers"),
        }

    def with_backend(self, backend: Backend) -> Tokenizer:
        """The same tokenizer on another library."""
        return replace(self, backend=backend)

    def encode_batch(self, texts: Sequence[str]) -> tuple[Tokens, NDArray[np.int64]]:
        """Encode texts; nothing is put around them. Memory stays bounded for a text of any length.

        Returns:
            The ids of all texts end to end, shape (tokens,), of `dtype`; and their limits, shape (len(texts) + 1,),
            int64: the ids of text i are `flat[offsets[i]:offsets[i + 1]]`.

        Raises:
            ValueError: a text holds a lone surrogate, which has no UTF-8 form; readers replace or reject those.
        """
        return self._engine.encode(texts)

    def encode_referee(self, texts: Sequence[str]) -> tuple[Tokens, NDArray[np.int64]]:
        """As `encode_batch`, with `tokenizers` whatever the backend."""
        return self._engine.encode_referee(texts)

    def encoder(self, seed: int, split: str) -> CheckedEncoder:
        """The encoder of one split, which checks a keyed sample of its documents."""
        return CheckedEncoder(self, seed, split)

    def decode(self, ids: AnyTokens | Sequence[int]) -> str:
        """The text of the ids, special tokens shown: the NFC form of what was encoded."""
        return self.decode_batch([ids])[0]

    def decode_batch(self, sequences: Sequence[AnyTokens | Sequence[int]]) -> list[str]:
        """The text of each sequence of ids. Where a sequence cuts a character, its bytes show as U+FFFD.

        Raises `TokenizerError` for numbers that are no ids of any vocabulary, as shards of others may have them.
        """
        arrays = [np.asarray(sequence) for sequence in sequences]
        for ids in arrays:
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < 1 << 32:
                raise TokenizerError(
                    f"ids from {ids.min()} to {ids.max()} are those of no vocabulary",
                    remedy="look at the data with `ettin-data verify --full`",
                )
        plain = [ids.tolist() for ids in arrays]
        return list(self._engine.referee.decode_batch(plain, skip_special_tokens=False))

    @property
    def _engine(self) -> Engine:
        return load(self.file, self.backend, self.special_tokens_in_text, self.frame)


class CheckedEncoder:
    """Encodes the documents of one split and has the referee encode a keyed sample of them again (ARCHITECTURE 5.4).

    A document with text is checked when the draw of its id, keyed by seed and split, falls under the tokenizer's
    `check_rate`; if none does, the one with the smallest draw is, in `finish`: one of over `LONG` characters only where
    there is no other, since it has to be kept until then, and would take the referee long. So which documents are
    checked depends on neither batches nor workers. With the referee as backend there is nothing to check, and `checked`
    stays 0.
    """

    LONG = 1_000_000

    def __init__(self, tokenizer: Tokenizer, seed: int, split: str) -> None:
        self.tokenizer, self.seed, self.split = tokenizer, seed, split
        self.backend = tokenizer.active_backend
        self.checked = 0
        self._lowest: tuple[int, str, str, Tokens] | None = None  # rank, id, text and ids, until one was checked

    def encode(self, ids: Sequence[str], texts: Sequence[str]) -> tuple[Tokens, NDArray[np.int64]]:
        """`Tokenizer.encode_batch` of the texts of the documents `ids`.

        Raises:
            BackendMismatch: the referee gives other ids for a document of the sample.
            ValueError: as `encode_batch`.
        """
        flat, offsets = self.tokenizer.encode_batch(texts)
        with_text = np.flatnonzero(np.fromiter(map(bool, texts), bool, len(texts))).tolist()  # no text proves nothing
        if self.backend == "tokenizers" or not with_text:
            return flat, offsets
        draw = draws(document_keys([ids[i] for i in with_text]), self.seed, self.split, "tokenizer check")
        for number in np.flatnonzero(draw * 2.0**-64 < self.tokenizer.check_rate).tolist():
            i = with_text[number]
            self._check(ids[i], texts[i], flat[offsets[i] : offsets[i + 1]])
        if self.checked == 0:
            long = np.array([len(texts[i]) > self.LONG for i in with_text], np.uint64)
            rank = draw >> np.uint64(1) | long << np.uint64(63)  # by draw, the long ones last
            low = int(np.argmin(rank))
            if self._lowest is None or rank[low] < self._lowest[0]:
                i = with_text[low]
                self._lowest = (int(rank[low]), ids[i], texts[i], flat[offsets[i] : offsets[i + 1]])
        return flat, offsets

    def finish(self) -> int:
        """Check one document if none was yet; the number that were. Raises `BackendMismatch`."""
        if self._lowest is not None:
            self._check(*self._lowest[1:])
        return self.checked

    def _check(self, document_id: str, text: str, got: Tokens) -> None:
        self.checked += 1
        self._lowest = None
        expected, _ = self.tokenizer.encode_referee([text])
        if np.array_equal(got, expected):
            return
        common = min(len(got), len(expected))
        differing = np.flatnonzero(got[:common] != expected[:common])
        at = int(differing[0]) if differing.size else common
        raise BackendMismatch(
            f"{self.backend} and tokenizers disagree about document {document_id!r}, first at token {at}",
            where=f"split {self.split}",
            why=f"from there {self.backend} gives {got[at : at + 8].tolist()}, "
            f"tokenizers {expected[at : at + 8].tolist()}",
            remedy="make the split again with backend tokenizers, and report the text of the document",
        )
