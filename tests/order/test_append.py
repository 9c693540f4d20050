"""An order goes on after samples were added: its steps stay, and everything that proves an order proves this one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from progress_log import ProgressLog
from typer.testing import CliRunner

import ettin_data
from ettin_data.base.errors import BuildError, OrderError, RecipeError
from ettin_data.build.build import build_phase
from ettin_data.build.prepare import BuildOptions
from ettin_data.cli.main import app
from ettin_data.order.append import appended_law
from ettin_data.order.appended import AppendedLaw, Earlier, as_runs
from ettin_data.order.index import OrderIndex, OrderLaw, write_order
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import EARLIER, open_phase
from ettin_data.tokenizer.encoder import TokenizerFile
from ettin_data.verify import VerifyOptions
from ettin_data.verify.repair import Repaired, repair

RECIPE = """
phase: mine
length: 64
filters: []
split_bytes: 3KB
validation: 0
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 5}
sources:
  texts: {root: texts, passes: 1}
"""


def words(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.output


# ---------------------------------------------------------------------------------------------------------------------
# the law


@given(
    data=st.data(), batch=st.integers(1, 7), seed=st.integers(0, 2**40), sizes=st.lists(st.integers(0, 40), max_size=3)
)
def test_the_law_is_that_of_its_docstring(data, batch: int, seed: int, sizes: list[int]) -> None:
    """With numpy alone: the steps of each stage, and that a further addition changes none of them."""
    there, samples = [], batch
    for added in [0, *sizes]:
        samples += added
        there.append(samples)
    total = samples + data.draw(st.integers(0, 20))
    mixed = data.draw(st.permutations(range(total)))
    earlier = [Earlier(n, "", "", as_runs(np.array(sorted(mixed[:n])))) for n in there]
    law = AppendedLaw(seed, 0, total, batch, earlier=tuple(earlier))
    order = law.permutation().tolist()
    assert sorted(order) == list(range(total))
    read: list[int] = []
    for stage, members in enumerate([*(sorted(mixed[:n]) for n in there), list(range(total))]):
        rest = np.array([position for position in members if position not in set(read)], int)
        drawn = rest[np.random.Generator(np.random.PCG64DXSM([seed, stage])).permutation(len(rest))]
        steps = len(members) // batch * batch if stage < len(there) else total
        read += drawn[: steps - len(read)].tolist()
    assert order == read
    plain = OrderLaw(seed, 0, there[0], batch).permutation()[: law.used_by(earlier[0])]
    assert order[: len(plain)] == np.array(sorted(mixed[: there[0]]))[plain].tolist()


def test_stages_that_do_not_follow_each_other_are_refused() -> None:
    def stage(samples: int, runs: list[list[int]]) -> Earlier:
        return Earlier(samples, "", "", np.array(runs, np.int64))

    for wrong in (
        (stage(4, [[0, 3]]),),
        (stage(4, [[0, 4], [2, 2]]),),
        (stage(4, [[7, 11]]),),
        (stage(8, [[0, 8]]), stage(4, [[0, 4]])),
        (stage(1, [[0, 1]]),),
        (),
    ):
        with pytest.raises(ValueError):
            AppendedLaw(21, 0, 10, 2, earlier=wrong)


# ---------------------------------------------------------------------------------------------------------------------
# builds


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> Path:
    monkeypatch.chdir(tmp_path)
    for source, files in (("texts", "abc"), ("more", "d"), ("last", "e")):
        Path(source).mkdir()
        for name in files:
            lines = [
                json.dumps({"id": f"{name}{n}", "text": f"Document {n} of {name}. " + "Again. " * (n % 13)})
                for n in range(40)
            ]
            Path(source, f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    Path("recipe.yaml").write_text(RECIPE)
    return tmp_path


def built(*changes: str, add: Sequence[str] = ()) -> Path:
    recipe = ettin_data.load_recipe("recipe.yaml", add_sources=add).changed(*changes)
    ettin_data.build(recipe, "run")
    return Path("run/mine")


def kept(phase: Path, name: str) -> Path:
    shutil.copytree(phase, name, copy_function=os.link)
    return Path(name)


def rows(phase: Path) -> list[list[int]]:
    """Tokens of the samples in reading order."""
    reader, order = MdsReader(phase / "train"), OrderIndex.open(phase / "order")
    return [reader.tokens(int(p)).tolist() for step in range(order.steps) for p in order.step(step)]


def test_after_an_addition_the_old_steps_stay_and_all_of_it_verifies(folder: Path) -> None:
    first = kept(built(add=["more=more:250"]), "first")
    phase = built(add=["more=more:600", "last=last:all"])  # a cut that grows, and a source more
    plain = ettin_data.open_run("run")["mine"].run
    said = words("order", "append", phase, "--after", first)
    begun, order = rows(first), OrderIndex.open(phase / "order")
    assert f"{len(begun) // 5} steps as before, {order.steps - len(begun) // 5} of what was added" in said
    now = rows(phase)
    assert now[: len(begun)] == begun and len(now) > len(begun)
    run = ettin_data.open_run("run")["mine"].run
    assert plain is not None and run is not None
    assert (
        run.order.law == "ettin-v1-appended" and run.root != plain.root and run.roots["train"] == plain.roots["train"]
    )
    for full in (False, True):
        (report,) = ettin_data.verify("run", full=full)
        assert report.sound, [str(finding) for finding in report.findings]
    recipe = ettin_data.load_recipe("recipe.yaml", add_sources=["more=more:600", "last=last:all"])
    assert ettin_data.build(recipe, "run").root == run.root  # the same command leaves it as it is
    # once more, on what was appended already
    second = kept(phase, "second")
    recipe = recipe.changed("sources.last.passes=2")
    ettin_data.build(recipe, "run")
    assert ettin_data.open_run("run")["mine"].order.law.name == "ettin-v1"
    words("order", "append", phase, "--after", second)
    assert rows(phase)[: len(now)] == now
    assert [each.samples for each in OrderIndex.open(phase / "order").info.earlier] == [
        len(MdsReader(each / "train")) for each in (first, second)
    ]
    (report,) = ettin_data.verify("run", full=True)
    assert report.sound, [str(finding) for finding in report.findings]


def test_a_training_run_and_a_publication_go_on(folder: Path) -> None:
    pytest.importorskip("torch")
    first = kept(built(), "first")
    phase = built(add=["more=more:600"])
    words("order", "append", phase, "--after", first)
    loader = ettin_data.torch_loader(first, 5)
    for _, _batch in zip(range(3), loader):
        pass
    resumed = ettin_data.torch_loader(phase, 5)
    resumed.load_state_dict(loader.state_dict())
    reader = MdsReader(phase / "train")
    read = [reader.tokens(p).tolist() for batch in resumed for p in batch["sample"].tolist()]
    assert read == rows(phase)[15:]
    words("order", "export", phase, "--out", "published")
    said = words("order", "verify", "--data", phase / "train", "--published", "published")
    assert "ettin-v1-appended" in said


def test_where_samples_are_gone_it_says_so(folder: Path) -> None:
    first = kept(built(), "first")
    phase = built("sources.texts.passes=0.5")
    before = (phase / "run.json").read_bytes()
    done = CliRunner().invoke(app, ["order", "append", str(phase), "--after", str(first)])
    assert isinstance(done.exception, OrderError) and "cannot go on here" in done.exception.what
    assert "has lost samples" in str(done.exception.why) or "is gone" in str(done.exception.why)
    assert (phase / "run.json").read_bytes() == before
    with pytest.raises(OrderError, match="nothing was added"):
        appended_law(open_phase(phase), open_phase(phase))
    assert "--after" in done.exception.remedy
    other = built("order.batch=4", add=["more=more:600"])
    with pytest.raises(OrderError, match="seed, epoch and batch"):
        appended_law(open_phase(other), open_phase(first))


def test_verify_sees_another_beginning_and_a_damaged_table(folder: Path) -> None:
    first = kept(built(), "first")
    phase = built(add=["more=more:600"])
    words("order", "append", phase, "--after", first)
    path = phase / "order" / EARLIER
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not ettin_data.verify("run")[0].sound
    path.write_bytes(whole)
    # an order that claims to go on from one it does not
    index = OrderIndex.open(phase / "order")
    law = index.law
    assert isinstance(law, AppendedLaw)
    forged = Earlier(law.earlier[0].samples, "0" * 64, law.earlier[0].data_digest, law.earlier[0].runs)
    write_order(
        phase / "order",
        AppendedLaw(law.seed, law.epoch, law.samples, law.batch, earlier=(forged,)),
        interval_steps=index.info.interval_steps,
        phase="mine",
        data_digest=index.info.data_digest,
    )
    (report,) = ettin_data.verify("run", full=True)
    assert "other_beginning" in {finding.reason for finding in report.findings}


# ---------------------------------------------------------------------------------------------------------------------
# targets that are raised


def grown(first: Path, *changes: str, add: Sequence[str] = ()) -> Path:
    recipe = ettin_data.load_recipe("recipe.yaml", overrides=changes, add_sources=add, after=str(first))
    ettin_data.build(recipe, "run")
    return Path("run/mine")


def test_raised_targets_go_on_with_what_was_taken(folder: Path) -> None:
    """More splits, more held out, another cut: with --after the earlier samples stay, and a third build goes on too."""
    parts = ("validation=0.1", "sources.texts={root: texts, tokens: 1300}")
    first = kept(built(*parts, add=["more=more:300"]), "first")
    plain = built("validation=0.1", "sources.texts={root: texts, tokens: 1700}", add=["more=more:380"])
    with pytest.raises(OrderError, match="cannot go on here"):
        appended_law(open_phase(plain), open_phase(first))
    raised = ("validation=0.1", "sources.texts={root: texts, tokens: 1700}")
    phase = grown(first, *raised, add=["more=more:380"])
    words("order", "append", phase, "--after", first)
    begun = rows(first)
    assert rows(phase)[: len(begun)] == begun
    run = ettin_data.open_run("run")["mine"].run
    before = ettin_data.open_run("first")["mine"].run
    assert run is not None and before is not None
    assert run.roots["validation"] == before.roots["validation"]
    assert run.recipe["sources"]["texts"]["after"] == [
        {"tokens": 1300, "passes": None, "splits": before.sources["texts"].splits}
    ]
    for full in (False, True):
        (report,) = ettin_data.verify("run", full=full)
        assert report.sound, [str(finding) for finding in report.findings]
    flipped(next(p for p in sorted(phase.glob("train/texts/*/samples.parquet")) if p.stat().st_nlink < 3))
    assert mended(phase).root == run.root
    assert abs(run.sources["texts"].tokens - 1700) <= 64 and abs(run.sources["more"].tokens - 380) <= 64
    second = kept(phase, "second")
    phase = grown(second, "validation=0.1", "sources.texts={root: texts, tokens: 2700}", add=["more=more:380"])
    words("order", "append", phase, "--after", second)
    begun = rows(second)
    assert rows(phase)[: len(begun)] == begun
    again = ettin_data.open_run("run")["mine"].run
    assert again is not None and len(again.recipe["sources"]["texts"]["after"]) == 2
    assert again.recipe["sources"]["more"]["after"] == run.recipe["sources"]["more"]["after"]
    (report,) = ettin_data.verify("run", full=True)
    assert report.sound, [str(finding) for finding in report.findings]
    with pytest.raises(RecipeError, match=r"its validation is 0\.1, this recipe's 0\.0"):
        ettin_data.load_recipe("recipe.yaml", after="second")


# ---------------------------------------------------------------------------------------------------------------------
# repair


def flipped(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])


def mended(phase: Path) -> Repaired:
    return repair(phase, VerifyOptions(), BuildOptions(phase.parent, None, None))


@pytest.fixture
def appended(folder: Path) -> Path:
    first = kept(built(), "first")
    phase = built(add=["more=more:600"])
    words("order", "append", phase, "--after", first)
    return phase


@pytest.mark.parametrize("name", ["interval_000001.parquet", "order.json", ""])
def test_repair_makes_an_order_again_that_goes_on(appended: Path, name: str) -> None:
    wanted = {path.name: path.read_bytes() for path in (appended / "order").iterdir()}
    run = json.loads((appended / "run.json").read_text())
    if name:
        flipped(appended / "order" / name)
    else:  # and a link that train/ has, with which all is mixed again
        flipped(appended / "order/interval_000001.parquet")
        flipped(next((appended / "pools/texts").glob("*/shard.00000.mds")))
    done = mended(appended)
    assert done.root == run["root"] and "order" in done.made_again
    assert {path.name: path.read_bytes() for path in (appended / "order").iterdir()} == wanted
    assert not (appended / "damaged").exists() and ettin_data.verify("run", full=True)[0].sound


def test_where_the_earlier_samples_are_not_known_repair_changes_nothing(appended: Path) -> None:
    root = json.loads((appended / "run.json").read_text())["root"]
    flipped(appended / "order" / EARLIER)
    before = {path: path.read_bytes() for path in appended.rglob("*") if path.is_file()}
    with pytest.raises(BuildError, match="not known any more") as caught:
        mended(appended)
    assert {path: path.read_bytes() for path in appended.rglob("*") if path.is_file()} == before
    assert f"order append {appended.absolute()} --after" in caught.value.remedy
    words("order", "append", appended, "--after", "first")
    assert json.loads((appended / "run.json").read_text())["root"] == root
    assert ettin_data.verify("run", full=True)[0].sound


def test_a_build_says_when_an_order_begins_anew(appended: Path) -> None:
    flipped(appended / "order" / EARLIER)
    recipe = ettin_data.load_recipe("recipe.yaml", add_sources=["more=more:600"])
    told = ProgressLog()
    build_phase(recipe, BuildOptions(Path("run"), None, None, progress=told))
    assert any(line.startswith("the order is written again: ") for line in told.said)
    assert OrderIndex.open(appended / "order").law.name == "ettin-v1"
