"""Evaluation texts: what is to be looked for, read from files, each text with a name of its own."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import model_validator

from ettin_data.base import files
from ettin_data.base.errors import RecipeError, near
from ettin_data.base.options import Options
from ettin_data.base.redact import redact
from ettin_data.sources import TransportOptions, list_files, own_source
from ettin_data.sources.access.transport import chunks
from ettin_data.stages.contamination.benchmarks import BENCHMARKS, Benchmark

COLUMNS = ("question", "answer", "passage")
_NAME_COLUMNS = f"name the columns with texts: {', '.join(COLUMNS)}"


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

    @model_validator(mode="before")
    @classmethod
    def _of_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return {"benchmark": value} if value in BENCHMARKS and not os.path.exists(value) else {"file": value}

    @model_validator(mode="after")
    def _one_place(self) -> TextsChoice:
        if (self.file is None) == (self.benchmark is None):
            raise ValueError("texts are of a `file` or of a `benchmark`")
        if self.benchmark and (self.question or self.answer or self.passage):
            raise ValueError(f"the columns of the benchmark {self.benchmark} are known: leave out those that are named")
        return self

    @classmethod
    def named(cls, name: str, **columns: str | None) -> TextsChoice:
        """What a command calls a file or a benchmark; a file of that name goes before."""
        one = cls.model_validate(name)
        return one if one.benchmark else cls(file=name, **columns)

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
        lacking: column -> how many records are without it, if some are.
    """

    address: str
    columns: Mapping[str, str]
    content: Mapping[str, Any]
    texts: tuple[EvaluationText, ...]
    lacking: Mapping[str, int]

    def describe(self) -> dict[str, Any]:
        """What a run's record says of it."""
        lacking = {"lacking": self.lacking} if self.lacking else {}
        return {"file": redact(self.address), **self.columns, **self.content, "texts": len(self.texts), **lacking}


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
        RecipeError: a file cannot be read, has not the columns, or nothing in them.
        SourceError: a hub or another store has no such file, or cannot be reached.
    """
    found = [(one, content) for choice in choices for one in choice.chosen() for content in _contents(one, transport)]
    names = _told_apart({content.address: content.name for _, content in found})
    read = [_file(choice, names[content.address], content) for choice, content in found]
    for choice in dict.fromkeys(choice.file for choice, _ in found):
        mine = [file for (one, _), file in zip(found, read, strict=True) if one.file == choice]
        if not any(file.texts for file in mine):
            told = ", ".join(sorted({column for file in mine for column in file.columns.values()}))
            raise _unreadable(mine[0].address, f"nothing stands in {told or 'it'}", _NAME_COLUMNS)
    return read


class _Content(NamedTuple):
    """A file as it lies somewhere."""

    name: str
    address: str
    data: bytes
    tag: str | None = None


def _contents(choice: TextsChoice, transport: TransportOptions | None) -> Iterator[_Content]:
    """The files that are meant."""
    assert choice.file is not None
    if "://" not in choice.file:
        try:
            yield _Content(Path(choice.file).name, choice.file, Path(choice.file).read_bytes())
        except OSError as error:
            name = Path(choice.file).name
            meant = None if "." in name else f"name a file, or a benchmark: {near(name, list(BENCHMARKS))}"
            raise _unreadable(choice.file, error.strerror or repr(error), meant) from error
        return
    source = own_source("evaluation", choice.file)
    options = transport or TransportOptions()
    for file in list_files(source, transport=options):
        address = f"{source.root}{file.path}"
        data = b"".join(chunks(source, file, options))
        yield _Content(address.partition("://datasets/")[2] or file.path, address, data, file.etag)


def _told_apart(names: Mapping[str, str]) -> dict[str, str]:
    """Address -> its name, with as many folders before it as tell it from others of that name."""
    found, parts = dict(names), 1
    while same := {name for name, times in Counter(found.values()).items() if times > 1}:
        parts += 1
        found |= {address: "/".join(address.split("/")[-parts:]) for address, name in found.items() if name in same}
    return found


def _file(choice: TextsChoice, name: str, content: _Content) -> EvaluationFile:
    columns = {column: key for column in COLUMNS if (key := getattr(choice, column)) is not None}
    said = files.digest_of(content.data) | ({"tag": content.tag} if content.tag else {})
    try:
        records = _records(content.name, content.data)
    except UnicodeDecodeError as error:
        why = f"byte {error.start:,} of it is not UTF-8"
        raise _unreadable(content.address, why, "convert it to UTF-8, such as: iconv -f LATIN1 -t UTF-8") from error
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        raise _unreadable(content.address, str(error)) from error
    named = columns or {"question": "text"}
    lacking = _lacking(content.address, records, named)
    return EvaluationFile(content.address, columns, said, tuple(_texts(name, records, named)), lacking)


def _unreadable(where: str, why: str, remedy: str | None = None) -> RecipeError:
    return RecipeError("the evaluation texts cannot be read", where=redact(where), why=why, remedy=remedy)


def _texts(name: str, records: Sequence[Mapping[str, Any]], named: Mapping[str, str]) -> Iterator[EvaluationText]:
    answer_key = named.get("answer") if "question" in named else None
    columns = list(named.items())
    for number, record in enumerate(records):
        answer = _plain(record.get(answer_key)) if answer_key else ""
        for column, key in columns:
            text = _plain(record.get(key))
            if text and not text.isspace():
                yield EvaluationText(f"{name}:{number} {column}", text, answer if column == "question" else "")


def _lacking(address: str, records: Sequence[Any], named: Mapping[str, str]) -> dict[str, int]:
    """Column -> how many records are without it, as records of json may be; all of them are an error."""
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise _unreadable(address, f"record {number:,} is no record with columns but {str(record)[:40]!r}")
    lacking = {key: sum(key not in record for record in records) for key in named.values()}
    for key, count in lacking.items():
        if count == len(records) > 0:
            there = list(map(str, records[0]))
            has = ", ".join(map(repr, there[:20])) or "none at all"
            raise _unreadable(address, f"no record has a column {key!r}; the first has {has}", _NAME_COLUMNS)
    return {key: count for key, count in lacking.items() if count}


def _records(name: str, data: bytes) -> Sequence[Any]:
    """The records of a file, by its ending; a line of another file is a record with a `text`."""
    if name.endswith(".gz"):
        name, data = name.removesuffix(".gz"), gzip.decompress(data)
    if name.endswith(".parquet"):
        import pyarrow.parquet as pq

        return list(pq.read_table(io.BytesIO(data)).to_pylist())
    text = data.decode("utf-8-sig")
    if name.endswith((".csv", ".tsv")):
        return _rows(text, "\t" if name.endswith(".tsv") else ",")
    if name.endswith(".json") and text.lstrip().startswith("["):
        return list(json.loads(text))
    if name.endswith((".jsonl", ".json", ".ndjson")):
        lines = text.split("\n")
        try:
            return [orjson.loads(line) for line in lines if line.strip()]
        except orjson.JSONDecodeError:  # of NaN and lone surrogates too, which others write
            return [_parsed(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    return [{"text": line} for line in text.split("\n") if line.strip()]


def _rows(text: str, separator: str) -> Sequence[Any]:
    limit = csv.field_size_limit(max(len(text), 1))  # a passage may be longer than the 128 KB of a cell
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
    finally:
        csv.field_size_limit(limit)


def _parsed(number: int, line: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number:,} is no JSON: {error.msg}") from error


def _plain(value: Any) -> str:
    """The text of a cell: of a list, such as choices or several answers, its members; of a record what stands in it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Mapping):
        value = list(value.values())
    return "\n".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
