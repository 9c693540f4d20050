"""The nouns of reading: source, file, record, reject, and where a mirror keeps a source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import SourceError
from ettin_data.base.redact import redact
from ettin_data.base.units import size
from ettin_data.tokenizer.vocabulary import MODERNBERT, Vocabulary

MIB = 1 << 20
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.\-]*[A-Za-z0-9_\-])?")
"""What a source can be called."""

NAME_RULE = "a source's name becomes a folder: a letter or digit, then letters, digits, _, - and ., but no . at its end"

BLANK_LINE = "blank_line"
"""The reason of a reject that is no record: it counts as a position, and as nothing that was lost."""


@dataclass(frozen=True)
class Source:
    """An upstream corpus: where its files are, their form, and how a record becomes a document.

    Attributes:
        root: URL or folder that the globs are relative to; always ends in "/".
        globs: patterns of `ettin_data.sources.globs`: `{0000..0274}` ranges, `*`, `**`.
        format: a hint, the name of a `sources.formats.FORMATS`; the content of a file decides.
        licence: as its publisher states it, of the whole; "not stated" where nobody does.
        terms: address of the page with licence and terms.
        gated: False, or what a user must do before the files can be fetched.
        files, bytes: what the upstream is expected to hold; None where no fact is known.
        upstream_tokens: tokens in the upstream's own tokenizer, for orientation only.
        tokenizer: for MDS of token ids in another vocabulary: the tokenizer that decodes them ("path or hub id").
        storage: extra fsspec options, such as `{"requester_pays": True}`.
        pick: names of the formats whose files are taken of what the globs match, by their names; () takes everything.
        complete: whether every number of a range in the globs has to be there.
        encoding: of its text, if that is not UTF-8 (`base.encodings`).
        shared: the folder below the root that is listed once for all sources of its family; None lists its own.
    """

    key: str
    category: str
    title: str
    root: str
    globs: tuple[str, ...]
    format: str
    text_key: str = "text"
    id_key: str = "id"
    licence: str = ""
    terms: str = ""
    gated: bool | str = False
    files: int | None = None
    bytes: int | None = None
    upstream_tokens: int | None = None
    tokenizer: str | None = None
    note: str = ""
    storage: Mapping[str, Any] = field(default_factory=dict)
    pick: tuple[str, ...] = ()
    complete: bool = False
    encoding: str | None = None
    shared: str | None = None


@dataclass(frozen=True)
class SourceFile:
    """A file of a source, or a part of a large one.

    Attributes:
        path: relative to the root, posix.
        size: of the file in bytes; -1 if unknown.
        etag: ETag or hub blob id, where the place of the file knows one.
        part: None for all of it; else first byte and end of what is read as an input of its own (`sources.parts`).
    """

    path: str
    size: int
    etag: str | None = None
    part: tuple[int, int] | None = None

    @property
    def bytes(self) -> int:
        """How many bytes there are to read; 0 if unknown."""
        return max(self.size, 0) if self.part is None else self.part[1] - self.part[0]

    @property
    def name(self) -> str:
        """What tells an input from others of its source: the path, and of a part its first byte: `a.jsonl@4096`."""
        return self.path if self.part is None else f"{self.path}@{self.part[0]}"

    def describe(self) -> dict[str, Any]:
        """An input as plans and markers list it; `part` only where there is one."""
        whole = {"path": self.path, "size": self.size, "etag": self.etag}
        return whole if self.part is None else {**whole, "part": list(self.part)}

    @classmethod
    def described(cls, entry: Mapping[str, Any]) -> SourceFile:
        """The input of an entry of `describe`; whatever else the entry says is left out."""
        part = entry.get("part")
        return cls(str(entry["path"]), int(entry["size"]), entry.get("etag"), (part[0], part[1]) if part else None)


@dataclass(slots=True)
class Record:
    """One document as it stands upstream.

    Attributes:
        text: the document; "" when `tokens` is set.
        id: the upstream id, or the stable fallback "<source>/<path>#<position>" (of a part `SourceFile.name`).
        position: ordinal of the record in its file, or in the part that is read, from 0: line, parquet row, MDS sample
            (MDS: of its first piece).
        metadata: light keys only: `url` if the record has one; `original_id` if a fallback replaced an id;
            `repaired` ("utf8" or "surrogates") if characters were replaced, with the encoding that it `looks_like`;
            `cut` ("head", "tail", "both") for a piece
            of a document that a pack border cut; `pieces` when that many pieces (> 1) were joined.
        tokens: uint32 ids without framing, only for sources that are tokenized already, with the run's own tokenizer.
    """

    text: str
    id: str
    position: int
    metadata: dict[str, Any]
    tokens: NDArray[np.uint32] | None = None


_BLOCK = MIB


@dataclass(frozen=True, slots=True)
class Loss:
    """What is known of the rest of a file that cannot be read, besides the records that were seen before.

    Attributes:
        lost: how many more records the file says that it has: the rows of a parquet footer, the samples of a shard's
            header. None where it does not say.
        read: bytes, as stored, that those before came from; 0 if that is not known.
        unread: bytes, as stored, of what was not read; None where the size says nothing of what the file held, since
            it is no data or ends early.
    """

    lost: int | None = None
    read: int = 0
    unread: int | None = None

    def records(self, seen: int, per_byte: float = 0.0, per_file: float = 0.0) -> int:
        """An estimate of the records that were lost, at least one unless the file says that there were none.

        What the file says goes before all. Else what was not read counts at the file's own rate of records in a byte;
        the rate of its source's sound files weighs in it as much as a block, since a decoder may have read so far ahead
        of what it gave. Of a file that ends early nothing says how long it was: it counts as long as the others, or, if
        it is longer than those already, as twice what is left: the median, if files are likely to end anywhere.

        Args:
            seen: records of this file before.
            per_byte, per_file: records of sound files of the same source for a stored byte, and for a file.
        """
        if self.lost is not None:
            return self.lost
        if self.unread is None:
            return max(round(per_file) - seen if per_file >= seen else seen, 1)
        if seen and self.read:
            weight = _BLOCK if per_byte else 0
            return max(round(self.unread * (seen + per_byte * weight) / (self.read + weight)), 1)
        return max(round(self.unread * per_byte) - seen, 1)

    def said(self) -> str:
        """What the file probably held, in a few words."""
        if self.lost is not None:
            return f"it says that it holds {self.lost:,} records more"
        if self.unread is None:
            return "nothing says how much more it held"
        whole = self.read + self.unread
        return f"{self.read / whole:.0%} of {size(whole)} were read" if self.read else f"it has {size(whole)}"


@dataclass(slots=True)
class Reject:
    """One record, or the rest of a file, that is not used.

    Attributes:
        position: of the record; for a file, how many records had been seen where reading stopped.
        reason: short snake_case slug, used as a counter.
        detail: the offending value or the underlying error.
        raw: the start of the offending bytes, where that is sensible.
        loss: of the one reject that ends a file (`whole_file`), which is not counted as a record; else None.
    """

    position: int
    reason: str
    detail: str
    raw: bytes = b""
    loss: Loss | None = None

    @property
    def whole_file(self) -> bool:
        """Whether this is the rest of a file."""
        return self.loss is not None


@dataclass(frozen=True)
class TransportOptions:
    """How files come over a network.

    Attributes:
        attempts: failures in a row, without a MiB of progress between them, before the run stops with `SourceError`.
        backoff_s, backoff_max_s: the wait after a failure doubles from the one to the other, times a random 0.5 to 1; a
            server's `Retry-After` counts as the least.
        patience_s: a `Retry-After` over this is not waited for.
        timeout_s: a connection that gives nothing for this long is broken.
        block_bytes: bytes asked for in one request.
        per_host: requests at a time to one host, over all processes of this machine.
        cache: a folder that keeps what was fetched; None keeps nothing.
        cache_bytes: the size at which the cache lets go of what was used least recently.
    """

    attempts: int = 8
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    patience_s: float = 900.0
    timeout_s: float = 60.0
    block_bytes: int = 16 * MIB
    per_host: int = 16
    cache: str | None = None
    cache_bytes: int = 100 * 1024 * MIB


@dataclass(frozen=True)
class ReadOptions:
    """How files are read. Every limit is a bound on memory or work, stated with its reason.

    Attributes:
        on_bad: "reject" yields a `Reject` and goes on; "stop" raises `SourceError` with the same message.
        max_record_bytes: a longer record is rejected. Parsing takes three times a line's bytes, six times if it holds a
            character outside the BMP (measured), so that 128 MiB stay under 0.8 GB of a worker's 1.5 GB; the longest
            books and papers are some tens of MB.
        max_expansion: a compressed file may expand at most this much (real text: 2 to 10 times), once it has passed
            `expansion_floor` bytes; beyond is a decompression bomb.
        max_window_bytes: zstd windows above it are refused, since a window is held in memory; 2 GiB is the format's
            own limit for `--long=31`.
        strip_starcoder_markers: drop the `<reponame>`, `<filename>`, `<gh_stars>` prefix; by default it is plain text.
        join_chunks: consecutive rows of token shards with the same id are pieces of one document; join them.
        vocabulary: that of a source of token ids which names no tokenizer of its own.
        raw_bytes: how much of a rejected record is kept for the rejects folder.
        transport: how files come over a network.
    """

    on_bad: Literal["reject", "stop"] = "reject"
    max_record_bytes: int = 128 * MIB
    max_expansion: int = 200
    expansion_floor: int = 64 * MIB
    max_window_bytes: int = 1 << 31
    strip_starcoder_markers: bool = False
    join_chunks: bool = True
    raw_bytes: int = 64 * 1024
    vocabulary: Vocabulary = MODERNBERT
    transport: TransportOptions = TransportOptions()


class Damaged(Exception):
    """The rest of a file cannot be read; becomes one whole-file `Reject` (never leaves this package).

    Attributes:
        seen: how many records the reader had yielded before, set by the reader.
        lost: how many more the file says that it has, where it does (`Loss`).
        at: bytes as stored that what was yielded before came from, set where compression is taken off.
        sized: whether the file has the size of what it held; not so if its end is missing.
    """

    def __init__(self, reason: str, detail: str, lost: int | None = None, *, sized: bool = True) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.lost, self.sized = reason, detail, lost, sized
        self.seen, self.at = 0, 0


def is_local(root: str) -> bool:
    """Whether a root is a path of this machine (plain or file://)."""
    return "://" not in root or root.startswith(("file://", "local://"))


def local_path(root: str) -> str:
    """The plain path of a local root."""
    return root.split("://", 1)[1] if "://" in root else root


def shown(path: str) -> str:
    """A file name with the bytes that are not UTF-8, which Python holds as surrogates, as escapes: `caf\\xe9.jsonl`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def mirror_path(root: str) -> str:
    """Where a mirror keeps a root, relative to the sources root: the upstream's "host/path", so none collide.

    >>> mirror_path("https://olmo-data.org/dolma-v1_7/")
    'olmo-data.org/dolma-v1_7'
    >>> mirror_path("hf://datasets/mlfoundations/dclm-baseline-1.0-parquet@817d675/")
    'datasets/mlfoundations/dclm-baseline-1.0-parquet'
    >>> mirror_path("s3://princeton-prolong/data_before_packing/code_repos/")
    'princeton-prolong/data_before_packing/code_repos'

    Raises `SourceError` for a local root: it has no upstream layout.
    """
    if is_local(root):
        raise SourceError(
            f"{redact(root)!r} is a local folder and has no mirror",
            remedy="give the source an https://, hf://, s3:// or gs:// root, or use it where it is",
        )
    parts = urlsplit(root)
    host = parts.netloc.rpartition("@")[2].replace(":", "_")
    path = parts.path.strip("/")
    if parts.scheme == "hf":  # datasets/org/name@revision/sub: the revision names a state, not a place
        path = "/".join(part.partition("@")[0] for part in path.split("/"))
    return f"{host}/{path}".strip("/")
