"""Whether a library gives the referee's ids for a tokenizer: tried once on a machine, and kept.

A proof encodes the texts of `proof_texts` with both and stops at the first difference. It takes seconds, so what it
found is kept in the user's cache, `<cache>/proofs/`, under what it depends on: the tokenizer as the libraries get it,
the versions of both, and the machine's kind. A file there that is damaged, or that is about anything else, is as none.
What a proof is not is a promise about all texts: a build has the referee encode a sample of its documents all the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ettin_data.base import sealed_json, shapes
from ettin_data.base.errors import EttinError
from ettin_data.base.visible import visible
from ettin_data.tokenizer import proof_texts
from ettin_data.tokenizer.files import cache_folder
from ettin_data.tokenizer.libraries import Library, Unusable, guarded

if TYPE_CHECKING:
    from ettin_data.tokenizer.backends import Engine

PROCEDURE = 1
"""Raised when the texts of a proof change: what was kept before is then no proof."""

_BATCH = 500_000
"""Characters of a call, about as many as in a build: gigatoken takes 8 ms for a call, whatever is in it."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FirstDifference:
    """The first place at which a library and the referee give other ids.

    Attributes:
        document: number of the text, from 0.
        character: where in it, from 0.
        text: what stands there.
        ours, referee: ids from there.
    """

    document: int
    character: int
    text: str
    ours: list[int]
    referee: list[int]

    def said(self) -> str:
        where = f"text {self.document:,}, character {self.character:,}, at {visible(repr(self.text))}"
        return f"{where}: {self.ours}, tokenizers gives {self.referee}"


@dataclass(frozen=True)
class Proof:
    """What was found about one library and one tokenizer.

    Attributes:
        library, version, referee: name and version of the one, version of `tokenizers`.
        texts, characters: that were encoded by both.
        speed: processor time of the referee over that of the library, for the same words.
        difference: the first one, in words; None if there was none.
    """

    library: str
    version: str
    referee: str
    texts: int
    characters: int
    speed: float
    difference: str | None

    def said(self) -> str:
        """The finding, as a sentence."""
        if self.difference:
            return f"{self.library} {self.version} is not exact for this tokenizer: {self.difference}"
        return (
            f"proven: {self.library} {self.version} gives the ids of tokenizers {self.referee} for {self.texts:,} "
            f"texts of {self.characters:,} characters made from the file, {self.speed:.1f} times as fast"
        )


class _Kept(shapes.Shape):
    """A proof as it is kept; `of` is what it depends on."""

    of: dict[str, str | int | bool]
    library: shapes.Word
    version: shapes.Word
    referee: shapes.Word
    texts: shapes.Number
    characters: shapes.Number
    speed: Annotated[float, Field(ge=0, lt=1e9)]
    difference: str | None


def depends_on(json_text: str, special_tokens_in_text: bool, library: Library) -> dict[str, Any]:
    """All that decides the outcome of a proof."""
    return {
        "procedure": PROCEDURE,
        "tokenizer": hashlib.sha256(json_text.encode()).hexdigest(),
        "special_tokens_in_text": special_tokens_in_text,
        "library": library.name,
        "version": library.version or "",
        "referee": metadata.version("tokenizers"),
        "machine": platform.machine(),
    }


def kept(of: dict[str, Any]) -> Proof | None:
    """The proof that the cache has about this, if it is whole."""
    try:
        found = sealed_json.read(_place(of))
        shapes.require(_Kept, found)
    except (OSError, EttinError, ValueError):
        return None
    return Proof(**{name: found[name] for name in Proof.__dataclass_fields__}) if found["of"] == of else None


def keep(of: dict[str, Any], done: Proof) -> None:
    """Put a proof into the cache. A cache that cannot be written costs the next process its seconds, no more."""
    try:
        path = _place(of)
        path.parent.mkdir(parents=True, exist_ok=True)
        sealed_json.write(path, {"of": of, **asdict(done)})
    except (OSError, EttinError) as error:
        _log.info("a proof could not be kept, and is made again by each process: %s", error)


def prove(engine: Engine, library: Library, json_text: str) -> Proof:
    """Compare the accelerator of an engine with its referee, and measure both."""
    entries, added = _entries(engine), _added(json_text)
    key = engine.vocabulary.digest
    count, characters = 0, 0
    difference: str | None = None
    speed = 0.0
    try:
        for batch in _batches(proof_texts.texts(entries, added, key)):
            if found := first_difference(engine, batch, count):
                difference = found.said()
                break
            count += len(batch)
            characters += sum(map(len, batch))
        else:
            speed = _speed(engine, proof_texts.words(entries, key))
    except Unusable as error:
        difference = f"it fails, {error}"
    version = library.version or ""
    return Proof(library.name, version, metadata.version("tokenizers"), count, characters, speed, difference)


def first_difference(engine: Engine, texts: Sequence[str], first: int = 0) -> FirstDifference | None:
    """The first text, numbered from `first`, whose ids differ; None if none do. Raises `Unusable`.

    The comparison is of all ids end to end, and of the lengths: a text that differs is looked for only then.
    """
    ours, our_lengths = guarded(engine.call_fast, list(texts))
    theirs, their_lengths = engine.call_referee(list(texts))
    if np.array_equal(ours, theirs) and np.array_equal(our_lengths, their_lengths):
        return None
    for number, text in enumerate(texts):
        mine, right = guarded(engine.call_fast, [text])[0], engine.call_referee([text])[0]
        if not np.array_equal(mine, right):
            return _where(engine, text, mine, right, first + number)
    return FirstDifference(first, 0, "", [], [])  # the same one by one: only together they differ


@dataclass(frozen=True)
class OnText:
    """What a library does with somebody's own text.

    Attributes:
        documents, characters: that were encoded by both, up to the first difference.
        seconds, referee_seconds: of processor time.
        difference: the first one; its document is a position in what was given.
    """

    documents: int
    characters: int
    seconds: float
    referee_seconds: float
    difference: FirstDifference | None

    @property
    def speed(self) -> float:
        """Processor time of the referee over that of the library."""
        return self.referee_seconds / max(self.seconds, 1e-4)


def on_text(engine: Engine, documents: Iterable[str]) -> OnText:
    """Encode documents with the accelerator of an engine and with its referee, up to the first difference.

    Raises `Unusable` where the accelerator fails.
    """
    count, characters, seconds = 0, 0, [0.0, 0.0]
    for batch in _batches(documents):
        results = []
        for number, encode in enumerate((engine.encode, engine.encode_referee)):
            start = time.process_time()
            results.append(guarded(encode, batch))
            seconds[number] += time.process_time() - start
        (mine, limits), (right, their_limits) = results
        if not (np.array_equal(mine, right) and np.array_equal(limits, their_limits)):
            return OnText(count, characters, seconds[0], seconds[1], first_difference(engine, batch, count))
        count += len(batch)
        characters += sum(map(len, batch))
    return OnText(count, characters, seconds[0], seconds[1], None)


def _where(
    engine: Engine, text: str, mine: NDArray[np.uint32], right: NDArray[np.uint32], number: int
) -> FirstDifference:
    common = min(len(mine), len(right))
    differing = np.flatnonzero(mine[:common] != right[:common])
    at = int(differing[0]) if differing.size else common
    offsets = engine.referee.encode(text, add_special_tokens=False).offsets
    character = offsets[at][0] if at < len(offsets) else len(text)
    shown = text[max(0, character - 10) : character + 20]
    return FirstDifference(number, character, shown, mine[at : at + 6].tolist(), right[at : at + 6].tolist())


def _speed(engine: Engine, texts: list[str]) -> float:
    def seconds(call: Callable[[list[str]], object]) -> float:
        start = time.process_time()
        guarded(call, texts)
        return time.process_time() - start

    return seconds(engine.call_referee) / max(seconds(engine.call_fast), 1e-4)


def _entries(engine: Engine) -> list[str]:
    """Every entry of the vocabulary as text."""
    ids = sorted(engine.referee.get_vocab().values())
    return list(engine.referee.decode_batch([[id_] for id_ in ids], skip_special_tokens=False))


def _added(json_text: str) -> list[str]:
    return [str(token["content"]) for token in json.loads(json_text).get("added_tokens") or () if token["content"]]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _place(of: dict[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "proofs" / f"{of['library']}-{name[:32]}.json"
