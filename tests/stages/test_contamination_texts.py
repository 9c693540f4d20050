"""Files of evaluation texts that are not as they should be: what is read all the same, what is said of the others."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ettin_data.base.errors import RecipeError
from ettin_data.stages.contamination.options import DecontaminateChoice, chosen
from ettin_data.stages.contamination.texts import TextsChoice, read_files, read_texts

ASKED = "which of the following rivers is the longest one"
LINE = json.dumps({"q": ASKED}).encode()


def read(path, **columns):
    return [(text.name, text.text) for text in read_texts([TextsChoice(file=str(path), **columns)])]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.jsonl", b'{"q": null}\n{"q": " "}\n\n' + LINE, [("a.jsonl:2 question", ASKED)]),
        ("b.jsonl", b"\xef\xbb\xbf" + LINE + b"\r\n", [("b.jsonl:0 question", ASKED)]),
        ("c.csv", f'\ufeffq,a\r\n"{ASKED}",x\r\n,y\r\n'.encode(), [("c.csv:0 question", ASKED)]),
        ("d.csv", ("q\n" + "word " * 40_000 + "\n").encode(), [("d.csv:0 question", "word " * 40_000)]),
        ("e.json", json.dumps([{"q": ["one", None, 2]}], indent=1).encode(), [("e.json:0 question", "one\n\n2")]),
        ("f.jsonl", b'{"q": {"text": ["A b", "c"], "n": 1}}', [("f.jsonl:0 question", "A b\nc\n1")]),
    ],
)
def test_what_is_read_all_the_same(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name, question="q") == expected


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.jsonl", b'{"x": "y", "z": 1}\n{"p": 1}', "no record has a column 'q'; the first has 'x', 'z'"),
        ("b.csv", b"q;a\n1;2\n", "no record has a column 'q'; the first has 'q;a'"),
        ("c.jsonl", LINE + b'\n{"q": ', "line 2 is no JSON"),
        ("d.jsonl", b'["a"]', "record 0 is no record with columns"),
        ("e.json", b'["a"]', "record 0 is no record with columns"),
        ("f.csv", "q\nécoles".encode("latin-1"), "byte 2 of it is not UTF-8"),
        ("g.jsonl.gz", LINE, "Not a gzipped file"),
        ("h.jsonl.gz", gzip.compress(LINE)[:-9], "ended before"),
        ("i.parquet", b"PAR1", "arquet"),
        ("j.jsonl", b'{"q": ""}\n{"q": null}', "nothing stands in q"),
        ("k.jsonl", b"", "nothing stands in q"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, data, why):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RecipeError, match="the evaluation texts cannot be read") as raised:
        read(tmp_path / name, question="q")
    assert why in raised.value.why and name in raised.value.where and len(raised.value.why) < 200


def test_a_file_that_is_none_is_said(tmp_path):
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none.txt", "No such file")):
        with pytest.raises(RecipeError, match="texts cannot be read") as raised:
            read(path)
        assert why in raised.value.why
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(RecipeError, match="texts cannot be read"):
        read(tmp_path / "a.parquet", question="q")


def test_a_record_without_a_column_has_no_text_there(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINE + b'\n{"x": 1}\n{"q": "and this one", "a": "yes"}\n')
    choice = TextsChoice(file=str(tmp_path / "a.jsonl"), question="q", answer="a")
    (file,) = read_files([choice])
    assert [(text.name, text.answer) for text in file.texts] == [
        ("a.jsonl:0 question", ""),
        ("a.jsonl:2 question", "yes"),
        ("a.jsonl:2 answer", ""),
    ]
    assert file.describe()["lacking"] == {"q": 1, "a": 2}
    (whole,) = read_files([TextsChoice(file=str(tmp_path / "a.jsonl"), question="x")])
    assert whole.describe()["lacking"] == {"x": 2} and whole.texts[0].text == "1"


def test_a_text_alone_is_a_benchmark_or_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = DecontaminateChoice.model_validate(
        {"texts": ["gsm8k", "my.jsonl", {"file": "b.csv", "question": "q"}]}
    ).texts
    assert texts == [
        TextsChoice(benchmark="gsm8k"),
        TextsChoice(file="my.jsonl"),
        TextsChoice(file="b.csv", question="q"),
    ]
    for one in ("gsm8k", {"benchmark": "gsm8k"}):  # no list around it
        assert DecontaminateChoice.model_validate({"texts": one}).texts == texts[:1]
    for wrong in ([], None, 8, {}):
        with pytest.raises(ValidationError):
            DecontaminateChoice.model_validate({"texts": wrong})
    with pytest.raises(RecipeError, match="cannot be read") as raised:
        read_texts([TextsChoice.named("gsm8")])
    assert "gsm8k" in raised.value.remedy
    (tmp_path / "gsm8k").write_text(ASKED)
    assert TextsChoice.model_validate("gsm8k") == TextsChoice.named("gsm8k") == TextsChoice(file="gsm8k")
    assert TextsChoice.named("gsm8k", question="q") == TextsChoice(file="gsm8k", question="q")


def test_files_of_one_name_are_told_apart(tmp_path):
    for name in ("gsm8k", "mmlu"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl").write_text(json.dumps({"q": f"{ASKED} in {name}", "p": f"{ASKED} of {name}"}))
    (tmp_path / "other.txt").write_text(ASKED)
    choices = [TextsChoice(file=str(tmp_path / name / "test.jsonl"), question="q") for name in ("gsm8k", "mmlu")]
    choices += [TextsChoice(file=str(tmp_path / "other.txt"))]
    choices += [TextsChoice(file=str(tmp_path / "mmlu/test.jsonl"), passage="p")]
    assert [text.name for text in read_texts(choices)] == [
        "gsm8k/test.jsonl:0 question",
        "mmlu/test.jsonl:0 question",
        "other.txt:0 question",
        "mmlu/test.jsonl:0 passage",
    ]


def test_texts_of_which_none_can_be_looked_for_are_an_error(tmp_path):
    (tmp_path / "a.txt").write_text("yes\nno\n")
    with pytest.raises(RecipeError, match="none of the evaluation texts can be looked for") as raised:
        chosen(DecontaminateChoice.model_validate({"texts": [{"file": str(tmp_path / "a.txt")}]}))
    assert "of 2 texts the first, a.txt:0 question, has 1 words" in raised.value.why


def test_the_columns_of_a_benchmark_are_known():
    with pytest.raises(ValueError, match="the columns of the benchmark gsm8k are known"):
        TextsChoice(benchmark="gsm8k", question="question")
