"""A phase of members of multilingual sources, built from a mirror: each is a pool of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ettin_data
from ettin_data.executor import ExecutorOptions
from ettin_data.sources.languages import subsets

RECIPE = """
phase: pretrain
length: 64
filters: []
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 4}
sources:
  fineweb2.deu_Latn: {tokens: 900}
  fineweb2.ell_Grek: {tokens: 300}
  megawika2.zh: {tokens: 300}
"""


def test_members_are_sources_of_a_recipe(tmp_path: Path) -> None:
    web = tmp_path / "mirror/datasets/HuggingFaceFW/fineweb-2/data"
    for name in ("deu_Latn", "deu_Latn_removed", "ell_Grek"):
        path = web / name / "train" / "000_00000.parquet"
        path.parent.mkdir(parents=True)
        rows = [{"text": f"{name} {n}: eins zwei drei vier " * 8, "id": f"<urn:uuid:{name}-{n}>"} for n in range(40)]
        pq.write_table(pa.Table.from_pylist(rows), path)
    wiki = tmp_path / "mirror/datasets/jhu-clsp/megawika-2/zh"
    wiki.mkdir(parents=True)
    articles = [{"hash": f"zh{n}", "text": f"第{n}篇文章。" * 20, "wikicode": "=" * 5000} for n in range(40)]
    (wiki / "chunk_0.jsonl").write_text("".join(json.dumps(article) + "\n" for article in articles))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    run = ettin_data.build(
        ettin_data.load_recipe(str(tmp_path / "recipe.yaml")), tmp_path / "run", sources_root=str(tmp_path / "mirror")
    )
    assert {key: source.records for key, source in run.sources.items()} == dict.fromkeys(run.sources, 40)
    assert sorted(run.sources) == ["fineweb2.deu_Latn", "fineweb2.ell_Grek", "megawika2.zh"]
    card = (tmp_path / "run" / "pretrain" / "README.md").read_text()
    assert "ODC-BY" in card and "CC-BY-SA-4.0" in card


TINY = """
phase: pretrain
length: 64
filters: []
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 64}
max_epochs: 100
sources:
"""


@pytest.mark.slow
def test_every_language_of_fineweb2_is_built_and_meets_its_target(tmp_path: Path) -> None:
    """Members of three documents and more; of every third the target takes several passes."""
    web = tmp_path / "mirror/datasets/HuggingFaceFW/fineweb-2/data"
    names = sorted(subset.name for subset in subsets() if subset.name)
    for number, name in enumerate(names):
        path = web / name / "train" / "000_00000.parquet"
        path.parent.mkdir(parents=True)
        texts = [
            f"{name} {n}: " + " ".join(f"{name[:3]}{n * k % 97}" for k in range(60)) for n in range(3 + number % 9)
        ]
        pq.write_table(pa.table({"text": texts, "id": [f"<urn:uuid:{name}-{n}>" for n in range(len(texts))]}), path)
    targets = {name: (300, 500, 1500)[number % 3] for number, name in enumerate(names)}
    wanted = "".join(f"  fineweb2.{name}: {{tokens: {tokens}}}\n" for name, tokens in targets.items())
    (tmp_path / "recipe.yaml").write_text(TINY + wanted)
    run = ettin_data.build(
        ettin_data.load_recipe(str(tmp_path / "recipe.yaml")),
        tmp_path / "run",
        sources_root=str(tmp_path / "mirror"),
        workers=ExecutorOptions(workers=2),
    )
    assert len(run.sources) == len(names) == 1913 and run.seconds < 20 * 60
    for name, tokens in targets.items():
        built = run.sources[f"fineweb2.{name}"]
        assert abs(built.tokens - tokens) <= 64 and built.splits == 1
        assert built.records == built.documents + built.validation_documents + sum((built.not_taken or {}).values())
    assert max(built.passes for built in run.sources.values()) > 2
    (report,) = ettin_data.verify(tmp_path / "run")
    assert report.sound, report.findings[:5]
