"""Token ids of another vocabulary back to text: ProLong's Llama 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.errors import SourceError
from ettin_data.base.extras import MissingPackage, need
from ettin_data.base.redact import redact
from ettin_data.sources.access.transport import chunks
from ettin_data.sources.base import Source, SourceFile, TransportOptions, is_local
from ettin_data.tokenizer.vocabulary import AnyTokens

_PORTION = 1 << 14
"""Tokens that are looked up at once: few enough for a processor's cache."""


@dataclass(frozen=True)
class TokenBytes:
    """What each id stands for, end to end: `data[starts[i] : starts[i] + sizes[i]]`, uint8; the others are int32."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int32]
    sizes: NDArray[np.int32]

    @classmethod
    def of(cls, tokens: Sequence[bytes]) -> TokenBytes:
        sizes = np.fromiter(map(len, tokens), np.int32, len(tokens))
        return cls(np.frombuffer(b"".join(tokens), np.uint8), np.cumsum(sizes, dtype=np.int32) - sizes, sizes)

    def join(self, ids: AnyTokens) -> bytes:
        """The bytes of all ids, shape (n,), any integer dtype."""
        parts = []
        for first in range(0, len(ids), _PORTION):
            portion = ids[first : first + _PORTION].astype(np.intp, copy=False)
            sizes = self.sizes.take(portion)
            ends = np.cumsum(sizes, dtype=np.int32)
            # Where each byte comes from: the start of its token, and how far it is from the token's first byte.
            places = np.repeat(self.starts.take(portion) - (ends - sizes), sizes)
            places += np.arange(len(places), dtype=np.int32)
            parts.append(self.data.take(places).tobytes())
        return b"".join(parts)


@dataclass(frozen=True)
class Decoder:
    """A tokenizer that turns foreign token ids back into text.

    Attributes:
        tokenizer: the referee.
        specials: ids of special tokens.
        size: of the vocabulary, added tokens included.
        token_bytes: what each id stands for, if the tokenizer is byte-level: then the text of ids is their bytes end to
            end, at a sixth of the cost of a call of the referee. None where that is not so.
    """

    tokenizer: Any
    specials: frozenset[int]
    size: int
    token_bytes: TokenBytes | None = None

    def is_special(self, ids: AnyTokens) -> NDArray[np.bool_]:
        """Which of the ids, shape (n,), are special tokens, bool."""
        return np.isin(ids, list(self.specials))

    def text(self, ids: AnyTokens) -> str:
        """The text of ids without framing; special tokens inside stay as the literal text that they stand for."""
        if self.token_bytes is None:
            return str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=False))
        return self.token_bytes.join(ids).decode("utf-8", "replace")


def load_decoder(name: str) -> Decoder:
    """The tokenizer at a path (file or folder) or URL, or of a hub id ("org/name" or "org/name@revision").

    Raises `SourceError` naming what was tried.
    """
    from tokenizers import Tokenizer

    path = Path(name)
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        if not is_local(name):
            folder, _, base = name.rpartition("/")
            there = Source("tokenizer", "", "", folder + "/", (base,), "json")
            raw = b"".join(chunks(there, SourceFile(base, -1), TransportOptions()))
        elif path.is_file():
            raw = files.read(path)
        else:
            hf_hub_download = need("huggingface_hub", "a tokenizer from the hub").hf_hub_download
            repo, _, revision = name.partition("@")
            raw = Path(hf_hub_download(repo, "tokenizer.json", revision=revision or None)).read_bytes()
        tokenizer = Tokenizer.from_buffer(raw)
    except MissingPackage:
        raise
    except Exception as error:  # the hub client and the Rust parser raise many kinds, bare Exception among them
        raise SourceError(
            f"tokenizer {redact(name)!r} cannot be loaded",
            why=redact(error),
            remedy="name a tokenizer.json in the recipe (sources.<key>.tokenizer), or put one beside the mirror's root",
        ) from None
    specials = frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    decoder = Decoder(tokenizer, specials, size, _token_bytes(tokenizer, size))
    everything = np.arange(size)
    proven = decoder.text(everything) == tokenizer.decode(everything.tolist(), skip_special_tokens=False)
    return decoder if proven else replace(decoder, token_bytes=None)


def _token_bytes(tokenizer: Any, size: int) -> TokenBytes:
    """The bytes of each id by the rule of byte-level tokenizers (GPT-2's `bytes_to_unicode`, `decoders.ByteLevel`).

    Printable characters of Latin-1 stand for their own byte, U+0100 and on for the other bytes in order; a token with
    any other character in it (an added one) is its own text.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    byte_of = {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
    table = []
    for number in range(size):
        token = tokenizer.id_to_token(number) or ""
        known = all(character in byte_of for character in token)
        table.append(bytes(map(byte_of.__getitem__, token)) if known else token.encode("utf-8"))
    return TokenBytes.of(table)
