"""What a file format is: one value that says how its files are named, told apart, cut and read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import basename

from ettin_data.sources.access.inflate import SUFFIXES
from ettin_data.sources.base import Damaged, ReadOptions, Record, Reject, Source, SourceFile, TransportOptions

Items = Iterator[Record | Reject]
"""What a reader yields: every record of the file once, in order, as the one or the other."""


@dataclass(frozen=True)
class Input:
    """A file, or a part of a large one, as a reader gets it.

    Attributes:
        source, file, options: as `read_file` was called.
        blocks: the content in blocks of any size, compression off; of a part the content of its own bytes, which may
            begin and end inside a record. Nothing is fetched before the first is asked for. Raises `Damaged`.
        compressed: whether compression was taken off.
    """

    source: Source
    file: SourceFile
    options: ReadOptions
    blocks: Iterator[bytes]
    compressed: bool = False

    @property
    def prefix(self) -> str:
        """What fallback ids begin with: `<source>/<path>`, of a part `<source>/<path>@<first byte>`."""
        return f"{self.source.key}/{self.file.name}"


@dataclass(frozen=True)
class Index:
    """A file that names the files of a data set, and stands for them in a listing.

    Attributes:
        name: its basename; a file of this name is never read as data.
        files: (source, index, every file that is there by path, options) -> the files it names, of which those that
            are not there have the size -1, and the paths of these; None for a file that only has the index's name.
            Raises `SourceError` for an index that cannot be read, or names a file outside of the source.
    """

    name: str
    files: Callable[
        [Source, SourceFile, Mapping[str, SourceFile], TransportOptions], tuple[list[SourceFile], list[str]] | None
    ]


@dataclass(frozen=True)
class Format:
    """A file format. A module of this folder with a `FORMAT` registers it.

    Attributes:
        name: what a recipe calls it (`sources.<key>.format`).
        version: raised when the same bytes give other records; it is in the fingerprint of the splits that are read so.
        read: the records of an input. Raises `Damaged` where the rest of it cannot be read, with `seen` set.
        suffixes: of its files, in lower case and without compression.
        plain: whether any text is of this format where the name of its file says so: what only looks like the page of
            a web server, or an array, is its text. Lines of JSON objects are taken for what they are all the same.
        yields: in a user's folder its files are left out where there are some of a format with a lower number: notes
            beside a data set are not it.
        shy: those that a file in a user's folder may have without being data; it has to be named.
        recognise: whether the first bytes of a content (512, or all of it) are certainly this format.
        signed: every content of this format is recognised, so that what is not recognised is no such content. Other
            formats (lines of text) get what nobody recognises, if the source or the file's name says so.
        tokens_per_byte: ModernBERT tokens for a stored byte, by compression ("" for none); measured.
        cut: (source, file, its first bytes as stored, wanted places, options) -> the first place at or behind each
            wanted one where reading can begin, where there is one. None: such files are read whole.
        index: for data sets that list their own files.
        scheme: of roots whose "files" this format lists (`list_files`) and fetches by itself, such as "datasets://".
    """

    name: str
    version: int
    read: Callable[[Input], Items]
    suffixes: tuple[str, ...] = ()
    shy: tuple[str, ...] = ()
    plain: bool = False
    yields: int = 0
    recognise: Callable[[bytes], bool] = lambda head: False
    signed: bool = True
    tokens_per_byte: Mapping[str, float] = field(default_factory=dict)
    cut: Callable[[Source, SourceFile, bytes, Sequence[int], TransportOptions], Iterable[int]] | None = None
    index: Index | None = None
    scheme: str | None = None
    list_files: Callable[[Source, TransportOptions], list[SourceFile]] | None = None

    def names(self, path: str) -> bool:
        """Whether the name of a file says that it is of this format."""
        name = basename(path)
        return _suffix(name) in self.suffixes or (self.index is not None and name == self.index.name)

    def in_folder(self, path: str) -> bool:
        """Whether a file of a user's folder is taken for its name: of files with an index the index."""
        if self.index is not None:
            return basename(path) == self.index.name
        return self.names(path) and _suffix(path) not in self.shy

    def expected_tokens(self, file: SourceFile) -> int:
        """Tokens that a file or its part probably holds."""
        end = file.path.lower().rpartition(".")[2]
        rate = self.tokens_per_byte.get(end if end in SUFFIXES else "") or self.tokens_per_byte.get("", 0.0)
        return int(file.bytes * rate)


def _suffix(path: str) -> str:
    """The last suffix of a name that is no compression, in lower case."""
    parts = basename(path).lower().split(".")[1:]
    while parts and parts[-1] in SUFFIXES:
        parts.pop()
    return parts[-1] if parts else ""


def counted(items: Items) -> Items:
    """The items; damage that ends them says how many there were. For readers that yield one by one."""
    seen = 0
    try:
        for item in items:
            seen += 1
            yield item
    except Damaged as damage:
        damage.seen = seen
        raise
