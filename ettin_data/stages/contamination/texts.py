"""Evaluation texts: what is to be looked for, read from files, each text with a name of its own."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import model_validator

from ettin_data.base import files
from ettin_data.base.errors import RecipeError
from ettin_data.base.options import Options
from ettin_data.base.redact import redact
from ettin_data.sources import TransportOptions, list_files, own_source
from ettin_data.sources.access.transport import chunks
from ettin_data.stages.contamination.benchmarks import BENCHMARKS, Benchmark

COLUMNS = ("question", "answer", "passage")


class TextsChoice(Options):
    """A file of evaluation texts with the names of its columns, or a benchmark that is known by name."""

    file: str | None = None
    """jsonl, json, csv, tsv (also .gz), parquet, or one text a line; a path, or an address such as hf:// with `*`."""
    benchmark: Benchmark | None = None
    """Instead of a file and columns: a benchmark whose data sets are read from the hub."""
    question: str | None = None
    """The column of what is asked; of all columns none means `text`."""
    answer: str | None = None
    """The column of what is answered; with a question, the rule `decon` wants it behind that."""
    passage: str | None = None
    """The column of a text that belongs to the question."""

    @model_validator(mode="after")
    def _one_place(self) -> TextsChoice:
        if (self.file is None) == (self.benchmark is None):
            raise ValueError("texts are of a `file` or of a `benchmark`")
        return self

    @classmethod
    def named(cls, name: str, **columns: str | None) -> TextsChoice:
        """What a command calls a file or a benchmark; a file of that name goes before."""
        if name in BENCHMARKS and not os.path.exists(name):
            return cls(benchmark=name)
        return cls(file=name, **columns)

    def chosen(self) -> list[TextsChoice]:
        """The files that are meant, a path as an absolute one."""
        if self.benchmark is not None:
            return [
                TextsChoice(file=of.address, question=of.question, answer=of.answer, passage=of.passage)
                for of in BENCHMARKS[self.benchmark]
            ]
        assert self.file is not None
        path = self.file if "://" in self.file else os.path.abspath(os.path.expanduser(self.file))
        return [self.model_copy(update={"file": path})]


class EvaluationText(NamedTuple):
    """A text to look for.

    Attributes:
        name: `<file>:<record from 0>`, and the column behind a blank: what a person looks it up by.
        text: as it stands there.
        answer: what has to follow a question, where a rule asks for that; "" for none.
    """

    name: str
    text: str
    answer: str = ""


@dataclass(frozen=True)
class EvaluationFile:
    """A file of texts as it was read.

    Attributes:
        address: its path or where it is on a network.
        columns: the columns that were read: role -> name.
        content: its size and hash, and what the hub knows it by (`tag`) if it came from there.
        texts: in the file's order.
    """

    address: str
    columns: Mapping[str, str]
    content: Mapping[str, Any]
    texts: tuple[EvaluationText, ...]

    def describe(self) -> dict[str, Any]:
        """What a run's record says of it."""
        return {"file": redact(self.address), **self.columns, **self.content, "texts": len(self.texts)}


def read_texts(choices: Sequence[TextsChoice], transport: TransportOptions | None = None) -> list[EvaluationText]:
    """The texts of all files, in their order; equal texts of one column once. Raises as `read_files`."""
    return different(read_files(choices, transport))


def different(read: Iterable[EvaluationFile]) -> list[EvaluationText]:
    """The texts of files, equal ones once."""
    found: dict[tuple[str, str], EvaluationText] = {}
    for text in (text for file in read for text in file.texts):
        found.setdefault((text.text, text.answer), text)
    return list(found.values())


def read_files(choices: Sequence[TextsChoice], transport: TransportOptions | None = None) -> list[EvaluationFile]:
    """Read files of evaluation texts.

    Raises:
        RecipeError: a file cannot be read, or has not the columns.
        SourceError: a hub or another store has no such file, or cannot be reached.
    """
    return [
        _file(one, name, address, data, tag)
        for choice in choices
        for one in choice.chosen()
        for name, address, data, tag in _contents(one, transport)
    ]


def _contents(choice: TextsChoice, transport: TransportOptions | None) -> Iterator[tuple[str, str, bytes, str | None]]:
    """Name, address, bytes and tag of each file that is meant."""
    assert choice.file is not None
    if "://" not in choice.file:
        try:
            yield Path(choice.file).name, choice.file, Path(choice.file).read_bytes(), None
        except OSError as error:
            raise _unreadable(choice.file, error) from error
        return
    source = own_source("evaluation", choice.file)
    options = transport or TransportOptions()
    for file in list_files(source, transport=options):
        address = f"{source.root}{file.path}"
        data = b"".join(chunks(source, file, options))
        yield address.partition("://datasets/")[2] or file.path, address, data, file.etag


def _file(choice: TextsChoice, name: str, address: str, data: bytes, tag: str | None) -> EvaluationFile:
    columns = {column: key for column in COLUMNS if (key := getattr(choice, column)) is not None}
    content = files.digest_of(data) | ({"tag": tag} if tag else {})
    try:
        texts = tuple(_texts(name, _records(name, data), columns or {"question": "text"}))
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise _unreadable(address, error) from error
    return EvaluationFile(address, columns, content, texts)


def _unreadable(where: str, error: Exception) -> RecipeError:
    return RecipeError(
        "the evaluation texts cannot be read",
        where=redact(where),
        why=repr(error),
        remedy="name their columns: question, answer, passage",
    )


def _texts(name: str, records: Iterable[Mapping[str, Any]], named: Mapping[str, str]) -> Iterator[EvaluationText]:
    for number, record in enumerate(records):
        said = {
            column: value if isinstance(value := record[key], str) else _plain(value) for column, key in named.items()
        }
        answer = said.get("answer", "") if "question" in said else ""
        for column, text in said.items():
            if text.strip():
                yield EvaluationText(f"{name}:{number} {column}", text, answer if column == "question" else "")


def _records(name: str, data: bytes) -> list[Mapping[str, Any]]:
    """The records of a file, by its ending; a line of another file is a record with a `text`."""
    if name.endswith(".gz"):
        name, data = name.removesuffix(".gz"), gzip.decompress(data)
    if name.endswith(".parquet"):
        import pyarrow.parquet as pq

        return list(pq.read_table(io.BytesIO(data)).to_pylist())
    text = data.decode("utf-8-sig")
    if name.endswith((".csv", ".tsv")):
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if name.endswith(".tsv") else ","))
    lines = [line for line in text.split("\n") if line.strip()]
    if name.endswith(".json") and text.lstrip().startswith("["):
        return list(json.loads(text))
    if name.endswith((".jsonl", ".json", ".ndjson")):
        return list(map(_parsed, lines))
    return [{"text": line} for line in lines]


def _parsed(line: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # of NaN and lone surrogates too, which others write
        return json.loads(line)


def _plain(value: Any) -> str:
    """The text of a cell: of a list, such as choices or several answers, its members."""
    if value is None:
        return ""
    return "\n".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
