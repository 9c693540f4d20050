"""Large files in parts, through a whole build: the documents of the whole file, whoever builds, safe from change."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamper
import tiny_run

from ettin_data.base.errors import SourceError
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions, resolve, states
from ettin_data.inspect.lookup import Phase
from ettin_data.storage import ledger
from ettin_data.storage import split as markers
from ettin_data.verify import SOUND, VerifyOptions, verify_phase

PART = 100_000


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """The tiny run's sources, each one large file: lines, and parquet of many row groups."""
    root = tmp_path_factory.mktemp("large")
    tiny_run.write_tokenizer(root / "tokenizer.json")
    tiny_run.write_sources(root, splits=1, documents=800)
    (root / "beta/part-0001.jsonl").unlink()
    rows = [
        json.loads(line) for line in (root / "beta/part-0000.jsonl").read_text().splitlines() if "broken" not in line
    ]
    (root / "beta/part-0000.jsonl").unlink()
    options = {"row_group_size": 40, "compression": "NONE", "use_dictionary": False}
    pq.write_table(pa.Table.from_pylist(rows), root / "beta/part-0000.parquet", **options)
    return root


def recipe_of(root: Path, part_bytes: int | None = PART, **changes: object):
    size = "null" if part_bytes is None else part_bytes
    return tiny_run.tiny_recipe(root, 20, **{"part_bytes": size, "sources.beta.tokens": "150k", **changes})


@pytest.fixture(scope="module")
def built(large, tmp_path_factory) -> Path:
    return tiny_run.build(recipe_of(large), tmp_path_factory.mktemp("parts"))


def document_keys(phase: Path, source: str) -> list[int]:
    folders = sorted((phase / "pools" / source).iterdir())
    return sorted(np.concatenate([ledger.read_ledger(folder).documents["key"] for folder in folders]).tolist())


def test_the_documents_are_those_of_the_whole_file(built: Path, large: Path, tmp_path: Path) -> None:
    whole = tiny_run.build(recipe_of(large, None), tmp_path)
    for source in ("alpha", "beta"):
        splits = [path.name for path in sorted((built / "pools" / source).iterdir())]
        assert len(splits) > 4
        count = str(len(splits))
        assert splits[1].startswith(f"part_0000-part-{2:0{len(count)}}-of-{count}-")
        assert document_keys(built, source) == document_keys(whole, source)
    assert verify_phase(built, VerifyOptions(full=True)).status == SOUND
    plan = json.loads((built / "plan.json").read_text())
    assert [source["files"] for source in plan["sources"].values()] == [1, 1]


@pytest.mark.parametrize(
    "executor", [{"workers": 2}, pytest.param({"kind": "ray", "workers": 2}, marks=pytest.mark.slow)]
)
def test_parts_are_shared_out(built: Path, large: Path, tmp_path: Path, executor: dict) -> None:
    assert tamper.content(tiny_run.build(recipe_of(large), tmp_path, **executor)) == tamper.content(built)


def test_a_sample_is_traced_to_its_part(built: Path) -> None:
    rows = Phase(built).samples(range(0, 200, 7))
    places = {(span.file, span.record) for row in rows for span in row.spans}
    assert any("@" in file for file, _ in places)
    markers_of = [markers.read_marker(folder) for folder in (built / "pools/beta").iterdir()]
    starts = {marker.inputs[0]["part"][0] for marker in markers_of}
    assert {int(file.partition("@")[2]) for file, _ in places if file.endswith(tuple("0123456789"))} <= starts | {
        marker.inputs[0]["part"][0] for marker in map(markers.read_marker, (built / "pools/alpha").iterdir())
    }


def test_another_size_of_parts_is_built_again(large: Path, tmp_path: Path) -> None:
    phase = tiny_run.build(recipe_of(large), tmp_path)
    options = BuildOptions(tmp_path, None, None)
    assert all(state.endswith("there") for state in states(resolve(recipe_of(large), options)).values())
    other = tiny_run.build(recipe_of(large, 2 * PART), tmp_path)
    assert document_keys(other, "alpha") and verify_phase(other, VerifyOptions(full=True)).status == SOUND
    assert tamper.content(tiny_run.build(recipe_of(large), tmp_path)) == tamper.content(phase)


def test_a_part_with_other_content_of_the_same_size(tmp_path: Path) -> None:
    """Also where the change is in a line that begins in a part and ends in the next."""
    tiny_run.write_tokenizer(tmp_path / "tokenizer.json")
    tiny_run.write_sources(tmp_path, splits=1, documents=800)
    recipe, out = recipe_of(tmp_path), tmp_path / "run"
    phase = tiny_run.build(recipe, out)
    path = tmp_path / "alpha/part-0000.jsonl"
    data = path.read_bytes()
    third = sorted(
        marker.inputs[0]["part"][0] for marker in map(markers.read_marker, (phase / "pools/alpha").iterdir())
    )[2]
    word = data.index(b" ", third) + 1  # just behind the border: of a line of the part before
    assert data.rfind(b"\n", 0, word) < third
    path.write_bytes(data[:word] + b"x" + data[word + 1 :])
    with pytest.raises(SourceError, match=f"part-0000.jsonl@{third}: xxh3"):
        tiny_run.build(recipe, out)
    run.build_phase(recipe, BuildOptions(out, None, None, relist=True))
    fresh = tiny_run.build(recipe, tmp_path / "fresh")
    roots = [json.loads((folder / "run.json").read_text())["root"] for folder in (phase, fresh)]
    assert roots[0] == roots[1]


def test_members(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gzip of many members, cut in the middle of lines: the documents of the plain file."""
    monkeypatch.setattr("ettin_data.sources.access.inflate.TRIED", 1 << 12)
    data = (large / "alpha/part-0000.jsonl").read_bytes()
    (tmp_path / "alpha").mkdir()
    members = b"".join(gzip.compress(data[at : at + 50_000], mtime=0) for at in range(0, len(data), 50_000))
    (tmp_path / "alpha/part-0000.jsonl.gz").write_bytes(members)
    elsewhere = {"sources.alpha.root": tmp_path / "alpha"}
    zipped = tiny_run.build(recipe_of(large, len(members) // 4, **elsewhere), tmp_path / "zipped")
    assert len(list((zipped / "pools/alpha").iterdir())) > 3
    plain = tiny_run.build(recipe_of(large), tmp_path / "plain")
    assert document_keys(zipped, "alpha") == document_keys(plain, "alpha")
