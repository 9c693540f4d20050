"""`plan.json` and `run.json` on their way to the disk and back."""

import json
import re
from pathlib import Path

import pytest
import record_kit
from hypothesis import given
from hypothesis import strategies as st
from small_run import SmallRun

from ettin_data.base import sealed_json
from ettin_data.base.errors import BuildError, FormatError, ShardError
from ettin_data.storage import records
from ettin_data.storage.phase import Phase
from ettin_data.storage.records import FORMAT, OrderRecord
from ettin_data.tokenizer.vocabulary import MODERNBERT

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
COUNTS = st.integers(0, 1 << 62)
COUNTERS = st.dictionaries(TEXT, COUNTS, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | COUNTS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ORDERS = st.builds(
    OrderRecord, law=TEXT, seed=COUNTS, epoch=COUNTS, samples=COUNTS, batch=COUNTS, steps=COUNTS, digest=TEXT
)
SOURCES = st.builds(
    record_kit.built_source,
    COUNTS,
    passes=st.floats(0, 1e6),
    rejected=COUNTERS,
    skipped_tokens=COUNTERS,
    fallbacks=st.lists(TEXT, max_size=2),
    steps=st.dictionaries(TEXT, COUNTERS, max_size=2),
)
RECIPE = record_kit.run_record({}).recipe  # with whatever else a newer version says
RUNS = st.builds(
    record_kit.run_record,
    st.just({}),
    sources=st.dictionaries(TEXT, SOURCES, max_size=3),
    order=ORDERS,
    totals=COUNTERS,
    vocabulary=st.none() | st.dictionaries(TEXT, JSON, max_size=3).map(lambda more: more | MODERNBERT.to_json()),
    recipe=st.dictionaries(TEXT, JSON, max_size=3).map(lambda more: more | RECIPE),
    seconds=st.floats(0, 1e9),
    later=JSON,  # a field that this version does not know
)


@pytest.fixture(scope="module")
def phase(tmp_path_factory: pytest.TempPathFactory) -> Phase:
    return Phase(tmp_path_factory.mktemp("run") / "pretrain", "pretrain")


@given(RUNS)
def test_a_run_comes_back_as_it_was_written(phase: Phase, run: records.RunRecord) -> None:
    records.write_record(phase, run)
    assert records.read_run(phase) == run
    assert json.loads(phase.run_json.read_text())["format"] == FORMAT


FILES = st.lists(st.fixed_dictionaries({"path": TEXT, "size": COUNTS, "etag": st.none() | TEXT}), max_size=2)


@given(st.dictionaries(TEXT, st.integers(0, 1 << 58), max_size=3), st.data())
def test_a_plan_comes_back_as_it_was_written(phase: Phase, tokens: dict[str, int], data: st.DataObject) -> None:
    files = {key: data.draw(st.dictionaries(TEXT, FILES, max_size=2)) for key in tokens}
    plan = record_kit.plan_record(record_kit.run_record(tokens), files)
    carried = records.write_record(phase, plan)
    assert records.read_plan(phase) == plan
    assert records.write_record(phase, plan) == carried == sealed_json.digest(phase.plan_json.read_bytes())


@pytest.fixture
def written(tmp_path: Path) -> Phase:
    phase = Phase(tmp_path / "pretrain", "pretrain")
    run = record_kit.write_run(phase.folder, {"books": 1000})
    records.write_record(phase, record_kit.plan_record(run))
    return phase


KINDS = pytest.mark.parametrize(("name", "read"), [("run.json", records.read_run), ("plan.json", records.read_plan)])


@KINDS
def test_a_newer_format_is_refused_whatever_else_it_is(written: Phase, name: str, read) -> None:
    path = written.folder / name
    body = {**sealed_json.read(path), "format": FORMAT + 1}
    for data in (
        sealed_json.seal({"format": FORMAT + 1, "other": []}),
        sealed_json.seal(body)[:-40] + b'"new seal"\n}\n',
    ):
        path.write_bytes(data)
        for refused in (read, records.refuse_newer):
            with pytest.raises(FormatError, match=f"{name} has format {FORMAT + 1}") as caught:
                refused(written)
            assert caught.value.where == path
            assert f"up to {FORMAT}" in str(caught.value.why)
            assert "update ettin-data" in str(caught.value.remedy)


@KINDS
def test_a_format_inside_of_the_recipe_is_not_that_of_the_file(written: Phase, name: str, read) -> None:
    body = sealed_json.read(written.folder / name)
    body["recipe"] |= {"format": 99, "nested": {"format": 99}}
    sealed_json.write(written.folder / name, body)
    assert read(written).recipe["format"] == 99
    records.refuse_newer(written)


@KINDS
def test_a_file_of_before_formats_is_of_the_first(written: Phase, name: str, read) -> None:
    body = sealed_json.read(written.folder / name)
    before = read(written)
    if body.pop("vocabulary", None):
        before = before.model_copy(update={"vocabulary": None})
    del body["format"]
    later = {name for name, field in records.BuiltSource.model_fields.items() if not field.is_required()}
    for source in body["sources"].values():
        for field in later:
            source.pop(field, None)
    sealed_json.write(written.folder / name, body)
    assert read(written) == before


@KINDS
def test_a_file_that_does_not_say_all_is_named_with_what_is_missing(written: Phase, name: str, read) -> None:
    complete = sealed_json.read(written.folder / name)
    for member in ("phase", "recipe", "totals", "sources"):
        body = {key: value for key, value in complete.items() if key != member}
        sealed_json.write(written.folder / name, body)
        with pytest.raises(ShardError, match=f"(?s){name} is damaged.*{member}: Field required") as caught:
            read(written)
        assert caught.value.where == written.folder / name


@KINDS
def test_one_changed_byte_is_seen(written: Phase, name: str, read) -> None:
    path = written.folder / name
    data = path.read_bytes()
    for at in range(0, len(data), 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises((ShardError, FormatError)):
            read(written)
    for cut in (b"", b"{}", data[:-1]):
        path.write_bytes(cut)
        with pytest.raises(ShardError, match=f"{name} is damaged"):
            read(written)


@KINDS
def test_a_missing_file_is_named(written: Phase, name: str, read) -> None:
    (written.folder / name).unlink()
    with pytest.raises(BuildError, match=f"there is no {name}") as caught:
        read(written)
    assert caught.value.where == written.folder
    records.refuse_newer(written)


def test_the_example_in_the_readme_runs(small_run: SmallRun, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(small_run.folder)
    monkeypatch.chdir(tmp_path)
    readme = Path(records.__file__).with_name("README.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(block, {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["decay", "pretrain"]
