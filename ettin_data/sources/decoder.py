"""Token ids of another vocabulary back to text: ProLong's Llama 3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data.errors import SourceError
from ettin_data.sources.base import Source, SourceFile, TransportOptions, is_local
from ettin_data.sources.redact import redact
from ettin_data.sources.transport import chunks


@dataclass(frozen=True)
class Decoder:
    """A tokenizer that turns foreign token ids back into text."""

    tokenizer: Any
    specials: frozenset[int]
    size: int

    def text(self, ids: np.ndarray) -> str:
        """The text of ids without framing; special tokens inside stay as the literal text that they stand for."""
        return self.tokenizer.decode(ids.tolist(), skip_special_tokens=False)


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
            raw = path.read_bytes()
        else:
            from huggingface_hub import hf_hub_download

            repo, _, revision = name.partition("@")
            raw = Path(hf_hub_download(repo, "tokenizer.json", revision=revision or None)).read_bytes()
        tokenizer = Tokenizer.from_buffer(raw)
    except Exception as error:  # the hub client and the Rust parser raise many kinds, bare Exception among them
        raise SourceError(
            f"tokenizer {redact(name)!r} cannot be loaded",
            why=redact(error),
            remedy="name a tokenizer.json in the recipe (sources.<key>.tokenizer), or put one beside the mirror's root",
        ) from None
    specials = frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    return Decoder(tokenizer, specials, size)
