"""Repair builds exactly what is damaged, and the run has its root again; diff walks down to what differs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tamper
import tiny_run
from typer import Typer
from typer.testing import CliRunner

from ettin_data.base.errors import BuildError, EttinError, ShardError
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.cli import durable as cli_durable
from ettin_data.inspect.diff import compare
from ettin_data.verify import DAMAGED, SOUND, VerifyOptions, verify_phase
from ettin_data.verify.repair import repair

QUICK, FULL = VerifyOptions(), VerifyOptions(full=True)


@pytest.fixture(scope="module")
def commands() -> Typer:
    app = Typer()
    for command in (cli_durable.verify, cli_durable.repair, cli_durable.diff):
        app.command()(command)
    return app


def building(phase: Path) -> BuildOptions:
    return BuildOptions(phase.parent, None, None)


def rotten(path: Path, seed: int = 0) -> None:
    """A changed byte without a trace in times: what a build does not see, and verification does."""
    import os

    status = path.stat()
    tamper.flip(path, np.random.default_rng(seed))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("options", [QUICK, FULL], ids=["quick", "full"])
def test_repair_makes_the_bad_again_and_leaves_the_rest(copied: Path, tiny_phase: Path, options) -> None:
    """A shard that train/ links, a ledger that was cut for train/, and a file of the order."""
    linked = next(p for p in sorted((copied / "pools").glob("*/*/shard.00000.mds")) if p.stat().st_nlink == 2)
    cut = next(p for p in sorted((copied / "train").glob("*/*/samples.parquet")) if p.stat().st_nlink == 1)
    for path in (linked, cut, copied / "order/interval_000001.parquet"):
        rotten(path)
    before = {path: path.stat().st_ino for path in tamper.files(copied)}
    done = repair(copied, options, building(copied))
    split = f"{linked.parent.parent.name}/{linked.parent.name}"
    assert {"order", f"pools/{split}", f"train/{split}", str(cut.parent.relative_to(copied))} <= set(done.made_again)
    if options.full:
        assert len(done.made_again) == 4
    assert (done.root, done.known) == (json.loads((tiny_phase / "run.json").read_text())["root"], True)
    assert verify_phase(copied, FULL).status == SOUND
    assert tamper.content(copied) == tamper.content(tiny_phase)
    assert not (copied / "damaged").exists()
    assert linked.stat().st_nlink >= 2  # linked again, not stored twice
    kept = [path for path in before if path.match("shard.*") and not any(unit in str(path) for unit in done.made_again)]
    assert kept and all(path.stat().st_ino == before[path] for path in kept)


@pytest.mark.parametrize(
    "name", ["run.json", "plan.json", "digests.json", "order/order.json", "train/index.json", "manifests/alpha.json"]
)
def test_repair_of_the_files_beside_the_splits(copied: Path, tiny_phase: Path, name: str) -> None:
    tamper.flip(copied / name, np.random.default_rng(4))
    assert verify_phase(copied).status == DAMAGED
    done = repair(copied, QUICK, building(copied))
    assert verify_phase(copied, FULL).status == SOUND
    assert compare(copied, tiny_phase).equal
    assert not any(unit.startswith(("pools", "train", "validation")) for unit in done.made_again)


def test_repair_of_what_is_missing_or_foreign(copied: Path, tiny_phase: Path) -> None:
    parts = sorted((copied / "pools/alpha").iterdir())
    shutil.rmtree(parts[0])
    shutil.rmtree(parts[1])
    shutil.copytree(parts[2], parts[1])
    (copied / "rejects/beta/part_0000.jsonl").unlink()
    repair(copied, QUICK, building(copied))
    assert verify_phase(copied, FULL).status == SOUND
    assert tamper.content(copied) == tamper.content(tiny_phase)


def test_nothing_to_repair(copied: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    done = repair(copied, QUICK, building(copied))
    assert done.made_again == () and done.known
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_repair_refuses_what_is_not_of_the_run(copied: Path, tiny_root: Path, tmp_path: Path) -> None:
    """Another recipe, or changed inputs, would change splits that are sound; damage by law cannot be built away."""
    shard = max((copied / "pools/alpha").glob("*/shard.00000.mds"))  # not of the file that changes below
    rotten(shard)
    damaged = tamper.content(copied)
    with pytest.raises(BuildError, match="not those that the run was built from"):
        repair(copied, QUICK, building(copied), tiny_run.tiny_recipe(tiny_root, **{"pack.min_length": 40}))
    assert tamper.content(copied) == damaged
    other = tmp_path / "other"
    shutil.copytree(tiny_root, other)
    (other / "alpha/part-0000.jsonl").write_text('{"id": "new", "text": "moda model"}\n')
    with pytest.raises(EttinError, match=r"not those that|changed since"):
        repair(copied, QUICK, building(copied), tiny_run.tiny_recipe(other))
    assert tamper.content(copied).keys() == damaged.keys()
    for name in ("run.json", "plan.json"):
        (copied / name).write_text("{}")
    with pytest.raises(BuildError, match="does not say with which recipe"):
        repair(copied, QUICK, building(copied))
    done = repair(copied, QUICK, building(copied), tiny_run.tiny_recipe(tiny_root))
    assert done.known  # digests.json still had the root


def test_a_damaged_pool_is_never_cut_into_train(copied: Path, tiny_recipe) -> None:
    """What a disk has spoilt must not get new hashes: the build stops and says what to do."""
    cut = next(p for p in sorted((copied / "train/alpha").iterdir()) if (p / "split.json").stat().st_nlink == 1)
    rotten(copied / "pools/alpha" / cut.name / "shard.00000.mds")
    shutil.rmtree(cut)
    with pytest.raises(EttinError, match=r"(?s)shard.00000.mds is damaged.*`ettin-data repair`"):
        run.build_phase(tiny_recipe, building(copied))
    done = repair(copied, QUICK, building(copied))
    assert not done.known  # run.json was gone, so nobody can say
    assert verify_phase(copied, FULL).status == SOUND


def test_the_commands(copied: Path, tiny_phase: Path, commands: Typer) -> None:
    """Exit statuses and output, for people and for machines."""
    runner = CliRunner()

    def call(*words: str) -> tuple[int, str]:
        result = runner.invoke(commands, list(words))
        return result.exit_code, result.stdout

    status, text = call("verify", str(copied), "--workers", "1")
    assert status == 0 and "pretrain: sound (quick; 16 splits" in text
    rotten(min((copied / "pools/alpha").glob("*/shard.00000.mds")))
    status, text = call("verify", str(copied), "--workers", "1", "--full")
    assert status == 1 and "[wrong_hash]" in text and "shard.00000.mds, sample" in text
    status, text = call("verify", str(copied), "--workers", "1", "--json")
    (report,) = json.loads(text)
    assert status == 1 and not report["sound"] and report["findings"][0]["reason"] == "wrong_hash"
    status, text = call("repair", str(copied), "--workers", "1")
    assert status == 0 and "made again: pools/alpha/" in text
    status, text = call("diff", str(copied), str(tiny_phase))
    assert status == 0 and "pretrain: equal, root" in text
    (copied / "run.json").unlink()
    assert call("verify", str(copied), "--workers", "1")[0] == 3


# ---------------------------------------------------------------------------------------------------------------------
# diff


def test_diff_walks_down_to_the_sample(tiny_phase: Path, tiny_root: Path, tmp_path: Path) -> None:
    """One word of one document changed: the source, the split, the sample and the token are named, decoded."""
    other = tmp_path / "sources"
    shutil.copytree(tiny_root, other)
    path = other / "alpha/part-0002.jsonl"
    lines = path.read_text().splitlines()
    document = json.loads(lines[31])
    words = document["text"].split()
    words[len(words) // 2] = "shard" if words[len(words) // 2] != "shard" else "model"
    lines[31] = json.dumps({**document, "text": " ".join(words)})
    path.write_text("\n".join(lines) + "\n")
    changed = tiny_run.build(tiny_run.tiny_recipe(other), tmp_path / "out")
    comparison = compare(changed, tiny_phase)
    assert not comparison.equal
    found = {difference.path: difference for difference in comparison.differences}
    split = "train/alpha/part_0002-tokenized-chunked-128-48-8-backfill-nodups"
    assert set(found) == {"train", "train/alpha", split}
    sample = found[split]
    assert sample.a.id == sample.b.id == document["id"]
    assert sample.a.tokens == sample.b.tokens
    assert sample.a.text != sample.b.text and words[len(words) // 2] in sample.a.text
    assert "1 only in a, 1 only in b" in sample.detail
    json.dumps(comparison.to_json())


def test_diff_of_what_is_only_on_one_side(tiny_phase: Path, tiny_root: Path, tmp_path: Path) -> None:
    changed = tiny_run.tiny_recipe(tiny_root)
    fewer = {**changed.model_dump(), "sources": {"alpha": {**changed.sources["alpha"].model_dump(), "tokens": 12_000}}}
    fewer["order"]["seed"] = 22
    one = tiny_run.build(type(changed).model_validate(fewer), tmp_path)
    found = {difference.path: difference for difference in compare(one, tiny_phase).differences}
    assert found["train/beta"].kind == found["train/beta-dup"].kind == "only_b"
    assert "seed 22, 21" in found["order"].detail
    assert found["train/alpha"].kind == "differs"


def test_diff_with_the_digests_of_another_laboratory(copied: Path, tiny_phase: Path, tmp_path: Path) -> None:
    """A file of a few KB is enough to know that the data are the same, or in which split they are not."""
    theirs = tmp_path / "theirs.json"
    shutil.copy(tiny_phase / "digests.json", theirs)
    assert compare(copied, theirs).equal
    name = next(iter(sorted((copied / "train/alpha").iterdir()))).name
    shards = tamper.read_rows(copied / "train/alpha" / name)
    shards[0][0], shards[0][1] = shards[0][1], shards[0][0]
    from ettin_data.storage import ledger

    table = ledger.read_ledger(copied / "train/alpha" / name)
    order = np.arange(len(table.samples["document"]))
    order[[0, 1]] = [1, 0]
    tamper.write_rows(copied / "train/alpha" / name, shards)
    swapped = replace(table, samples={column: values[order] for column, values in table.samples.items()})
    tamper.forge(copied, f"train/alpha/{name}", swapped)
    comparison = compare(copied, theirs)
    assert not comparison.equal
    assert comparison.differences[-1].path == f"train/alpha/{name}" and comparison.differences[-1].a is None
    theirs.write_bytes(theirs.read_bytes().replace(b'"samples": 1', b'"samples": 2', 1))
    with pytest.raises(ShardError, match="is damaged"):
        compare(copied, theirs)


def test_diff_of_an_unfinished_run(copied: Path, tiny_phase: Path) -> None:
    (copied / "run.json").unlink()
    assert compare(copied, tiny_phase).equal
    shutil.rmtree(next((copied / "train/beta").iterdir()))
    assert not compare(copied, tiny_phase).equal
