"""Evaluation texts: what is to be looked for, read from files, each text with a name of its own."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ettin_data.base.errors import RecipeError
from ettin_data.base.options import Options

COLUMNS = ("question", "answer", "passage")


class TextsChoice(Options):
    """A file of evaluation texts, and the names of its columns."""

    file: str
    """jsonl, json, csv, tsv (also .gz), parquet; or a text file with one text a line. Without a column: `text`."""
    question: str | None = None
    """The column of what is asked."""
    answer: str | None = None
    """The column of what is answered; with a question, the rule `decon` wants it behind that."""
    passage: str | None = None
    """The column of a text that belongs to the question."""


@dataclass(frozen=True)
class EvaluationText:
    """A text to look for.

    Attributes:
        name: `<file>:<record from 0>`, and the column behind a blank: what a person looks it up by.
        text: as it stands there.
        answer: what has to follow a question, where a rule asks for that; "" for none.
    """

    name: str
    text: str
    answer: str = ""


def read_texts(choices: Sequence[TextsChoice]) -> list[EvaluationText]:
    """The texts of all files, in their order; equal texts of one column once.

    Raises:
        RecipeError: a file cannot be read, or has not the columns.
    """
    found: dict[tuple[str, str], EvaluationText] = {}
    for choice in choices:
        for text in _of_file(choice):
            found.setdefault((text.text, text.answer), text)
    return list(found.values())


def _of_file(choice: TextsChoice) -> Iterator[EvaluationText]:
    path = Path(choice.file).expanduser()
    named = {column: key for column in COLUMNS if (key := getattr(choice, column)) is not None} or {"question": "text"}
    try:
        records = _records(path)
        for number, record in enumerate(records):
            said = {column: _plain(record[key]) for column, key in named.items()}
            answer = said.get("answer", "") if "question" in said else ""
            for column, text in said.items():
                if text.strip():
                    yield EvaluationText(f"{path.name}:{number} {column}", text, answer if column == "question" else "")
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise RecipeError(
            "the evaluation texts cannot be read",
            where=path,
            why=repr(error),
            remedy="name their columns: question, answer, passage",
        ) from error


def _records(path: Path) -> list[Mapping[str, Any]]:
    """The records of a file, by its ending; a line of another file is a record with a `text`."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pyarrow.parquet as pq

        return list(pq.read_table(path).to_pylist())
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = raw.decode("utf-8-sig")
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
