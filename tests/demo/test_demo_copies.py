"""Copies that are planted into the demo: every exact one goes, within a source, across sources and across phases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ettin_data
from ettin_data.demo.demo import mirror_folder, recipes
from ettin_data.demo.mirror import write_mirror
from ettin_data.recipe import Recipe
from ettin_data.sources import REGISTRY, Record, list_files, read_file, with_root
from ettin_data.storage import ledger
from ettin_data.storage.phase import DOCUMENTS, Phase
from ettin_data.storage.split import read_marker

pytestmark = pytest.mark.slow
MEGABYTES = 2.0
ALONE = 40
LATER = """
phase: extension
length: 8000
pack: {{min_length: 512, always_skip: 128}}
order: {{batch: 4}}
validation: 0
max_epochs: 1000
dedup: {{earlier: [{earlier}]}}
sources:
  again: {{root: again, tokens: 20000}}
"""


def planted(folder: Path, texts: list[str]) -> None:
    """A source of each text twice, shouted and with other blanks, and of some texts that nobody else has."""
    dressed = [text.upper() for text in texts] + [text.replace(" ", " \n") for text in texts]
    dressed += [" ".join(f"{folder.name}{n}and{word}" for word in range(300)) for n in range(ALONE)]
    folder.mkdir()
    lines = [json.dumps({"id": f"{folder.name}-{n}", "text": text}) for n, text in enumerate(dressed)]
    (folder / "a.jsonl").write_text("\n".join(lines))


def texts_in(phase: Phase, part: str, recipe: Recipe, mirror: Path, each: int) -> list[str]:
    """Of each source of a part some texts of at least twenty words, as they stand upstream."""
    found = []
    for key in recipe.sources:
        source = with_root(REGISTRY[key], str(mirror))
        there = set()
        for name in phase.splits(part):
            if name.split("/")[1] == key:
                folder = phase.folder / name
                inputs = [entry["path"] for entry in read_marker(folder).inputs]
                places = ledger.read_table(folder, DOCUMENTS, ["file", "position"])
                there |= {
                    (inputs[file], at) for file, at in zip(places["file"], places["position"].tolist(), strict=True)
                }
        taken = 0
        for file in list_files(source):
            for record in read_file(source, file):
                long = isinstance(record, Record) and len(record.text.split()) >= 20
                if long and (file.path, record.position) in there and taken < each:
                    found.append(record.text)
                    taken += 1
    return found


def test_every_exact_copy_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_mirror(mirror_folder(tmp_path), megabytes=MEGABYTES)
    mirror = mirror_folder(tmp_path)
    first = recipes(MEGABYTES)[0].changed("validation=0", "max_epochs=1000")
    ettin_data.build(first, "plain", sources_root=str(mirror))
    texts = texts_in(Phase(tmp_path / f"plain/{first.phase}", first.phase), "pools", first, mirror, 4)
    assert len(texts) > 2 * len(first.sources)

    keys = ", ".join(first.sources)
    planted(tmp_path / "copies", texts)
    run = ettin_data.build(
        first.changed(f"dedup={{priority: [{keys}]}}", "sources.copies={root: copies, tokens: 20000}"),
        "run",
        sources_root=str(mirror),
    )
    assert run.sources["copies"].left_out["same_text"] == 2 * len(texts), "across sources"
    assert run.sources["copies"].left_out["same_text"] + ALONE == run.sources["copies"].records
    taken = texts_in(Phase(tmp_path / f"run/{first.phase}", first.phase), "train", first, mirror, 4)
    assert len(taken) > len(first.sources)
    planted(tmp_path / "again", taken)
    Path("later.yaml").write_text(LATER.format(earlier=f"run/{first.phase}"))
    later = ettin_data.build(ettin_data.load_recipe("later.yaml"), "run")
    assert later.sources["again"].left_out["same_text"] == 2 * len(taken), "across phases"
    planted(tmp_path / "within", [f"only here {n} {text}" for n, text in enumerate(texts)])
    alone = ettin_data.build(
        first.changed("dedup={across: []}", "sources.within={root: within, tokens: 20000}"),
        "alone",
        sources_root=str(mirror),
    )
    assert alone.sources["within"].left_out["same_text"] == len(texts), "within a source one of two goes"
