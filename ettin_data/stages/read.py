"""Read: the files of a split become documents; what cannot be used goes to the reject log."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from ettin_data.base import encodings
from ettin_data.base.errors import BuildError, SourceError
from ettin_data.sources import read_file
from ettin_data.sources.base import BLANK_LINE, ReadOptions, Record, Reject, Source, SourceFile
from ettin_data.stages.batches import LostFile, Tally
from ettin_data.stages.filters.measured import Reason
from ettin_data.tokenizer.vocabulary import AnyTokens


class RejectLog:
    """One JSON line for every record that is not used: file, position, reason and what is known of it.

    The file is created with the first line, so a split without rejects leaves none.
    """

    def __init__(self, path: Path, files: Sequence[SourceFile], tally: Tally) -> None:
        self.path, self.files, self.tally = path, files, tally
        self._file: Any = None

    def unreadable(self, file: int, reject: Reject) -> None:
        """A record, or the rest of a file, that could not be read. A blank line is neither, and only counted."""
        if reject.reason == BLANK_LINE:
            self.tally.noted["blank_lines"] += 1
            return
        if reject.loss is not None:
            self.tally.damaged[reject.reason] += 1
            damaged = self.files[file]
            self.tally.lost.append(
                LostFile(damaged.name, reject.reason, reject.detail, reject.position, damaged.bytes, reject.loss)
            )
        else:
            self.tally.records += 1
            self.tally.rejected[reject.reason] += 1
            if looks_like := encodings.likely(reject.raw):  # such as Shift-JIS, some of whose bytes are backslashes
                self.tally.noted[f"looks_like_{looks_like}"] += 1
        line = {"position": reject.position, "reason": reject.reason, "detail": reject.detail}
        if reject.whole_file:
            line["rest_of_file"] = True
        if reject.raw:
            line["raw"] = reject.raw.decode("utf-8", "backslashreplace")
        self._write(file, line)

    def filtered(self, document: Document, reason: str, by: str | None = None) -> None:
        """A document that a filter dropped; `by` which one, if it was one of the recipe's."""
        self.tally.filtered[str(reason)] += 1
        place = document.metadata
        line = {"position": place["position"], "reason": reason, "id": document.id}
        if by is not None:
            line["filter"] = by
        if "hits" in place:
            line["hits"] = place["hits"]
        if isinstance(reason, Reason) and reason.value is not None:
            line |= {"value": reason.value, "threshold": reason.threshold}
        self._write(place["file"], line)

    def used(self, document: Document, reason: str, hits: list[dict[str, Any]]) -> None:
        """A document that is used, and what was found in it, or taken out of it."""
        self.tally.noted[reason] += 1
        place = document.metadata
        line = {"position": place["position"], "reason": reason, "used": True, "id": document.id, "hits": hits}
        self._write(place["file"], line)

    def _write(self, file: int, line: dict[str, Any]) -> None:
        if self._file is None:
            # Not buffered: datatrove's executors, which close nothing, get every line too.
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        self._file.write(orjson.dumps({"file": self.files[file].name, **line}) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


_SHOWN = 20
"""Damaged files that an error names; the reject logs name them all."""


class FilesLost(SourceError):
    """Files of a split are damaged, and may not be left out. `files`: each with place, reason and what it held."""

    def __init__(self, source: str, files: Sequence[str]) -> None:
        shown = [*files[:_SHOWN], *([f"and {len(files) - _SHOWN:,} more"] if len(files) > _SHOWN else [])]
        super().__init__(
            f"{len(files):,} damaged file{'s'[: len(files) != 1]} in {source}",
            why="\n       ".join(shown),
            remedy="mend or fetch the file again and start the same command: it goes on from here; "
            "or build without it: --set bad_input.on_bad_file=skip",
        )
        self.source, self.files = source, tuple(files)

    @classmethod
    def together(cls, failed: Sequence[FilesLost]) -> FilesLost:
        """All of several as one."""
        sources = ", ".join(dict.fromkeys(lost.source for lost in failed))
        return cls(sources, [f"{lost.source}/{file}" for lost in failed for file in lost.files])


class Read(PipelineStep):
    """The step: nothing in, `Document`s out; their `metadata` has `file` (number in the split) and `position`.

    Without `skip_bad_files` it raises `FilesLost` at its end if a file is damaged; all files are read, so that the
    error names every one that is, but no documents come once it is known that the split will not be finished.

    Documents that come as token ids have them as `tokens`, and no text. Filters judge text: with `decode` such a
    document has that of its ids, and once more as `decoded`, which shows whether a filter edited it.
    """

    name = "📖 read"
    type = "📖 - READER"

    def __init__(
        self,
        source: Source,
        files: Sequence[SourceFile],
        options: ReadOptions,
        tally: Tally,
        rejects: RejectLog,
        skip_bad_files: bool = False,
        decode: Callable[[AnyTokens], str] | None = None,
    ) -> None:
        super().__init__()
        self.skip_bad_files = skip_bad_files
        self.source, self.files, self.options = source, files, options
        self.tally, self.rejects, self.decode = tally, rejects, decode

    def run(
        self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1
    ) -> Generator[Document, None, None]:
        if world_size > 1:  # each task would read and write all of it
            raise BuildError(
                f"the steps of one split were started as {world_size} tasks",
                remedy="start them with tasks=1; stages/README.md shows how tasks share splits",
            )
        for number, file in enumerate(self.files):
            for item in read_file(self.source, file, options=self.options):
                if isinstance(item, Reject):
                    self.rejects.unreadable(number, item)
                    self.stat_update("rejected")
                    continue
                if self.tally.lost and not self.skip_bad_files:
                    continue
                yield self.document(number, item)
        failed = [file for file in self.tally.lost if not self.skip_bad_files or file.changes]
        if failed:
            raise FilesLost(self.source.key, [str(file) for file in failed])

    def document(self, file: int, item: Record) -> Document:
        """The document of a record, counted. The record's text is let go."""
        self.tally.records += 1
        self.tally.text_bytes += len(item.text)
        metadata = item.metadata
        if len(metadata) > ("url" in metadata):
            self._note(metadata)
        metadata["file"], metadata["position"] = file, item.position
        if item.tokens is not None:
            metadata["tokens"] = item.tokens
            if self.decode is not None:
                item.text = metadata["decoded"] = self.decode(item.tokens)
        document = Document(text=item.text, id=item.id, metadata=metadata)
        item.text = ""  # the reader keeps the records of a block; a large text need not stay with them
        return document

    def _note(self, metadata: dict[str, Any]) -> None:
        """Count what the reader did to a document to be able to use it (`sources.base.Record.metadata`)."""
        if "original_id" in metadata:
            self.tally.noted["id_replaced"] += 1
        if "repaired" in metadata:
            self.tally.noted[f"repaired_{metadata['repaired']}"] += 1
            if looks_like := metadata.pop("looks_like", None):
                self.tally.noted[f"looks_like_{looks_like}"] += 1
        if "cut" in metadata:
            self.tally.noted[f"cut_{metadata['cut']}"] += 1
        if "pieces" in metadata:
            self.tally.noted["joined"] += 1
