"""The libraries that encode, behind one form of call.

`tokenizers` is the referee: always loaded, always right. `fastokens` and `gigatoken` are accelerators of others; what
they give is compared (`proof`) before it is believed. A library that fails to load, panics or is not installed is one
that is not used: none of that ends a build.

gigatoken 0.10.0 keeps every piece of text that it has seen, without a bound, where a tokenizer is byte-level: 90 bytes
a distinct word. So its object is thrown away and made again after so many bytes of text; with SentencePiece's kind of
tokenizer it was seen to keep nothing (20 million distinct words), and the bound is there for what was not seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Buffer

_RECYCLE = {"BPETokenizer": 1 << 26, "SentencePieceTokenizer": 1 << 30}
"""Characters after which gigatoken's object is made again, by its class."""


class FlatEncoder(Protocol):
    """What a fast library is to `backends.Engine`; fastokens' own form."""

    def encode_batch_flat(self, texts: list[str], *, split_special_tokens: bool) -> tuple[Buffer, Buffer]:
        """Ids of all texts end to end (little-endian uint32), and their limits (uint64, one more than texts)."""


@dataclass(frozen=True)
class Library:
    """An accelerator.

    Attributes:
        name: of the package, the module and the backend.
        load: takes the JSON text of a tokenizer and the added tokens that stay text, which are special there.
    """

    name: str
    load: Callable[[str, Collection[str]], FlatEncoder]

    @property
    def version(self) -> str | None:
        """Of the installed package; None where there is none."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None


class Unusable(Exception):
    """A library cannot be loaded or fails in a call; what it says is the message."""


def guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call of a library gives; raises `Unusable` for whatever it raises, a panic of its native part too.

    A panic is no `Exception`: it would end the process that only meant to try.
    """
    try:
        return call(*arguments)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
            raise
        raise Unusable(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}") from None


def kept_as_text(file: Mapping[str, Any], reserved: Collection[int]) -> str | None:
    """JSON text of a parsed `tokenizer.json` in which these added tokens are special, so that libraries leave them.

    None if they are special already.
    """
    added = file.get("added_tokens") or ()
    if all(token.get("special") or token["id"] not in reserved for token in added):
        return None
    flagged = [{**token, "special": bool(token.get("special")) or token["id"] in reserved} for token in added]
    return json.dumps({**file, "added_tokens": flagged}, ensure_ascii=False)


def _fastokens(text: str, plain: Collection[str]) -> FlatEncoder:
    import fastokens

    encoder: FlatEncoder = fastokens.Tokenizer.from_json_str(text)
    encoder.no_truncation()  # type: ignore[attr-defined]
    return encoder


class _Gigatoken:
    """gigatoken in fastokens' form. It cannot leave special tokens in text alone, so it never hears of those."""

    def __init__(self, text: str, plain: Collection[str]) -> None:
        file = json.loads(text)
        heard = [token for token in file.get("added_tokens") or () if token["content"] not in plain]
        self.text = json.dumps({**file, "added_tokens": heard})
        self.encoder, self.left = self._new()

    def encode_batch_flat(self, texts: list[str], *, split_special_tokens: bool) -> tuple[Buffer, Buffer]:
        if self.left <= 0:
            del self.encoder  # before the next is made: two at once would be the peak
            self.encoder, self.left = self._new()
        self.left -= sum(map(len, texts))
        # Without its package awkward the rows come as a list of arrays, with it as one array of rows.
        rows = [np.asarray(row, np.uint32) for row in self.encoder.encode_batch(texts, parallel=False)]
        limits = np.cumsum([0, *map(len, rows)], dtype=np.uint64)
        return np.concatenate([np.empty(0, np.uint32), *rows]), limits

    def _new(self) -> tuple[Any, int]:
        from gigatoken import Tokenizer

        encoder = Tokenizer.from_json(self.text)
        return encoder, _RECYCLE.get(type(encoder.backend).__name__, min(_RECYCLE.values()))


ACCELERATORS = (Library("fastokens", _fastokens), Library("gigatoken", _Gigatoken))
