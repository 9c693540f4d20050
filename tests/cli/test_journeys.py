"""Thirteen ways in which people come to this package, in the words that they guess first, each to what it ends with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ettin_data
from ettin_data.base.errors import EttinError
from ettin_data.cli.main import app
from ettin_data.demo import demo
from ettin_data.storage.mds import MdsReader
from ettin_data.tokenizer.encoder import TokenizerFile

DROPPED = ("dclm_dolmino", "code_repos", "books", "wikipedia", "stackexchange_dolmino", "textbooks", "tulu_flan")
SMALL = ("--scale", "1e-6", "--set", "order.batch=4", *(word for name in DROPPED for word in ("--drop-source", name)))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("journeys")
    demo.mirror(root, 2.0)
    return demo.mirror_folder(root)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> Path:
    """A working folder with some records, pages and a table."""
    monkeypatch.chdir(tmp_path)
    for name in ("texts", "records"):
        Path(name).mkdir()
    for n in range(12):
        Path(f"texts/{n}.md").write_text(f"# Page {n}\n\n" + "Some words, and a few more of them. " * (9 + n))
    rows = [{"content": f"Record {n}. " + "All that is gold does not glitter. " * 9} for n in range(40)]
    Path("records/a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


@pytest.fixture
def cases(shared: Path) -> Path:
    return shared / "cases/journeys"


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, f"{done.output}\n{done.exception}"
    return done.output


def refused(*words: object) -> EttinError:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, EttinError), done.output
    return done.exception


def own(name: str, sources: str, more: str = "") -> None:
    head = "phase: mine\nlength: 128\npack: {min_length: 16, always_skip: 4}\norder: {batch: 4}\n"
    Path(name).write_text(f"{head}{more}sources:\n{sources}")


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_1_my_folder_beside_a_known_mix(mirror: Path) -> None:
    words = (
        "decay",
        "--sources-root",
        mirror,
        *SMALL,
        "--add-source",
        "mine=texts:1B",
        "--out",
        "run",
    )  # a billion, times the scale
    run("plan", *words)
    run("build", *words, "--workers", 1)
    assert ettin_data.open_run("run")["decay"].run.sources["mine"].tokens > 900  # type: ignore[union-attr]


def test_2_my_records_under_another_key() -> None:
    own("mine.yaml", "  mine: {root: records, passes: 1}\n")
    said = refused("plan", "mine.yaml")
    assert "content" in str(said)  # it says which column there is
    run("build", "mine.yaml", "--set", "mine.text_key=content", "--out", "run", "--workers", 1)
    assert ettin_data.open_run("run")["mine"].run.sources["mine"].records == 40  # type: ignore[union-attr]


@pytest.mark.slow
def test_3_my_parquet(cases: Path) -> None:
    for name, extra in (("one.parquet", ()), ("content.parquet", ("--set", "mine.text_key=content"))):
        own("mine.yaml", f"  mine: {{root: {cases / name}, passes: 1}}\n")
        run("build", "mine.yaml", *extra, "--out", name[:3], "--workers", 1)
        assert ettin_data.verify(name[:3])[0].sound


@pytest.mark.slow
def test_4_my_tokenizer_and_its_text_again(cases: Path) -> None:
    shutil.copy(cases / "small.json", "small.json")
    own("mine.yaml", "  mine: {root: texts, passes: 1}\n", "tokenizer: {name: small.json}\n")
    said = refused("build", "mine.yaml", "--out", "run", "--workers", 1)
    digest = next(word for word in str(said).replace("=", " ").split() if len(word.strip("'`,.")) == 64).strip("'`,.")
    run("build", "mine.yaml", "--set", f"tokenizer.sha256={digest}", "--out", "run", "--workers", 1)
    assert "Some words, and a few more" in run("inspect", "run/mine/train", "--number", 1)
    assert "ome words" in run("trace", "run", "--step", 1, "--rows", 1)


@pytest.mark.slow
def test_5_a_finished_pool_as_a_source() -> None:
    own("mine.yaml", "  pages: {root: texts, passes: 1}\n")
    run("build", "mine.yaml", "--out", "run", "--workers", 1)
    own("next.yaml", "  old: {root: run/mine/pools/pages, passes: 1}\n")
    run("build", "next.yaml", "--out", "again", "--workers", 1)
    first, second = (ettin_data.open_run(name)["mine"] for name in ("run", "again"))
    assert second.run.sources["old"].documents > 0.8 * first.run.sources["pages"].documents  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("length", [64, 512, 131_072])
def test_6_another_length(length: int) -> None:
    own("mine.yaml", "  mine: {root: texts, passes: 1}\n")
    run("build", "mine.yaml", "--length", length, "--out", "run", "--workers", 1)
    sizes = [len(row["input_ids"]) for row in MdsReader("run/mine/train")]
    assert max(sizes) <= length and (max(sizes) == 64) == (length == 64)


@pytest.mark.slow
def test_7_a_ratio_and_a_budget() -> None:
    own(
        "mine.yaml",
        "  pages: {root: texts, ratio: 3}\n  records: {root: records, ratio: 1, text_key: content}\n",
        "total: 1200\n",
    )
    shown = run("recipe", "show", "mine.yaml")
    assert "900" in shown and "300" in shown
    run("build", "mine.yaml", "--out", "run", "--workers", 1)
    sources = ettin_data.open_run("run")["mine"].run.sources  # type: ignore[union-attr]
    assert abs(sources["pages"].tokens - 900) < 128 and abs(sources["records"].tokens - 300) < 128
    scaled = ettin_data.load_recipe("decay", overrides=["total=10B"])
    assert sum(each.tokens for each in scaled.sources.values()) == 10_000_000_000


def test_8_without_books_and_twice_the_math() -> None:
    before = ettin_data.load_recipe("decay")
    shown = run("recipe", "show", "decay", "--drop-source", "books", "--set", "math_dolmino=2x", "--keep-total")
    Path("shown.yaml").write_text(shown)
    after = ettin_data.load_recipe("shown.yaml")
    assert "books" not in after.sources
    tokens = [{name: each.tokens for name, each in recipe.sources.items()} for recipe in (before, after)]
    assert sum(tokens[0].values()) == sum(tokens[1].values())
    assert tokens[1]["math_dolmino"] == 2 * tokens[0]["math_dolmino"]  # the others make room for it


def test_9_three_hundred_sources(cases: Path) -> None:
    Path("jl").mkdir()
    rows = [{"text": f"Line {n}. " + "Many a mickle makes a muckle. " * 20} for n in range(60)]
    Path("jl/a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = (cases / "mm300.yaml").read_text().replace("@SCRATCH@/cases/jl", str(Path("jl").absolute()))
    Path("many.yaml").write_text(text)
    planned = json.loads(run("plan", "many.yaml", "--json"))
    assert len(planned["sources"]) == 300


@pytest.mark.slow
def test_10_from_a_script(mirror: Path) -> None:
    recipe = ettin_data.load_recipe("decay", scale=1e-6, overrides=["order.batch=4"], drop_sources=list(DROPPED))
    made = ettin_data.build(recipe, "run", sources_root=str(mirror))
    assert made.totals["tokens"] > 0 and len(made.root) == 64


@pytest.mark.slow
def test_11_load_it(streaming: object) -> None:
    torch, datasets = pytest.importorskip("torch"), pytest.importorskip("datasets")
    from ettin_data.storage.mds import import_streaming

    own("mine.yaml", "  mine: {root: texts, passes: 1}\n")
    run("build", "mine.yaml", "--out", "run", "--workers", 1)
    theirs = import_streaming().StreamingDataset(local="run/mine/train", shuffle=False, batch_size=1)
    ours = MdsReader("run/mine/train")
    assert len(theirs) == len(ours) and np.array_equal(theirs[0]["input_ids"], ours[0]["input_ids"])
    batch = next(iter(ettin_data.torch_loader("run/mine", batch_size=2)))
    assert batch["input_ids"].shape[0] == 2 and isinstance(batch["input_ids"], torch.Tensor)
    rows = ettin_data.to_datasets("run/mine", streaming=True)
    assert next(iter(rows))["input_ids"] == ours[0]["input_ids"].tolist()
    run("export", "run/mine", "--to", "parquet", "--out", "parquet")
    assert (
        "input_ids"
        in datasets.load_dataset("parquet", data_files="parquet/*.parquet", cache_dir="cache")["train"].column_names
    )


def test_12_straight_into_a_bucket() -> None:
    own("mine.yaml", "  mine: {root: texts, passes: 1}\n")
    said = refused("build", "mine.yaml", "--out", "s3://my-bucket/x")
    assert "publish" in str(said.remedy) and "a run is built in a folder" in said.what
    assert not Path("s3:").exists()


def test_13_more_than_there_is() -> None:
    """Refused by the plan, before anything is tokenized."""
    own("mine.yaml", "  mine: {root: texts, tokens: 10M}\n")
    for command in ("plan", "build"):
        said = refused(command, "mine.yaml", "--out", "run")
        assert said.exit_status == 2 and "passes" in said.what and "max_epochs" in str(said.remedy)
    assert not Path("run/mine/pools").exists()
