"""A phase of members of multilingual sources, built from a mirror: each is a pool of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import ettin_data

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
