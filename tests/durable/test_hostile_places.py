"""What may lie where a file should: pipes, devices, holes, links, strays; and runs whose hashes agree and that lie."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tamper
import tiny_run
from typer.testing import CliRunner

from ettin_data.base import files, sealed_json
from ettin_data.base.errors import EttinError, OrderError, ShardError, SourceError, TokenizerError
from ettin_data.base.files import NotOrdinary
from ettin_data.build.prepare import BuildOptions
from ettin_data.cli.main import app
from ettin_data.inspect.decoding import words_of
from ettin_data.inspect.lookup import Phase
from ettin_data.inspect.trace import trace_step
from ettin_data.order import published
from ettin_data.order.loader_edits import Loader
from ettin_data.storage.mds import MdsReader
from ettin_data.tokenizer.files import resolve
from ettin_data.tokenizer.vocabulary import MODERNBERT, Vocabulary
from ettin_data.verify import SOUND, VerifyOptions, verify_phase
from ettin_data.verify.phase import UNFORESEEN

FULL = VerifyOptions(full=True)
TERABYTE = 1 << 40


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def hole(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(TERABYTE)


def folder(path: Path) -> None:
    path.mkdir()


def listener(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has room for 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


PLACES = [pipe, device, hole, folder, listener]
FILES = [
    "run.json",
    "plan.json",
    "digests.json",
    "README.md",
    "manifests/alpha.json",
    "order/order.json",
    "order/interval_000001.parquet",
    "train/index.json",
    "*/*/*/index.json",
    "*/*/*/split.json",
    "*/*/*/samples.parquet",
    "*/*/*/shard.00000.mds",
    "*/*/*/stats.json",
    "rejects/beta/*.jsonl",
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("put", PLACES)
def test_what_is_no_file_is_refused_before_it_is_opened(smaller: Path, put) -> None:
    """Whatever lies in the place of any file of a run is a finding of that file, and the other files are checked."""
    for pattern in FILES if put in (pipe, hole) else FILES[::4]:
        path = sorted(smaller.glob(pattern))[0]
        aside, name = smaller.parent / "aside", path.relative_to(smaller).as_posix()
        path.rename(aside)
        put(path)
        found = verify_phase(smaller, FULL).findings
        assert any(name in (f.where, *f.also) or f.where == str(Path(name).parent) for f in found), (name, found)
        assert UNFORESEEN not in {f.reason for f in found}
        with suppress(EttinError, NotOrdinary):
            trace_step(Phase(smaller), 1)
        path.rmdir() if put is folder else path.unlink()
        aside.rename(path)
    assert verify_phase(smaller, FULL).status == SOUND


@pytest.mark.timeout(60)
@pytest.mark.parametrize("put", PLACES)
def test_nothing_else_that_is_named_is_opened_either(tiny_root: Path, tmp_path: Path, put) -> None:
    """A publication, a tokenizer, a source file."""
    put(tmp_path / "steps_000001_to_000100.parquet")
    with pytest.raises(OrderError):
        list(published.iter_rows(str(tmp_path), str(tmp_path / "steps_000001_to_000100.parquet"), "uint16", 0))
    put(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError):
        resolve(str(tmp_path / "tokenizer.json"), sha256="0" * 64)
    root = tmp_path / "sources"
    shutil.copytree(tiny_root, root)
    put(root / "alpha/part-0009.jsonl")
    recipe = tiny_run.tiny_recipe(root)
    options = BuildOptions(tmp_path / "out", None, None)
    if put is folder:  # an empty one has no files
        assert tiny_run.run.build_phase(recipe, options).root
        return
    with pytest.raises((EttinError, SourceError), match="part-0009"):
        tiny_run.run.build_phase(recipe, options)


def test_an_honest_file_may_be_large_or_have_holes(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with open(path, "wb") as file:
        file.truncate(1 << 31)
    assert files.require_ordinary(path) == 1 << 31
    with pytest.raises(NotOrdinary, match="the most that can be right"):
        files.read(path, 1 << 20)


def test_nothing_that_a_run_names_is_fetched(monkeypatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("ettin_data.tokenizer.files.fetch", lambda name: asked.append(name))
    stated = Vocabulary.from_json({**MODERNBERT.to_json(), "name": "evil/repository@main", "digest": "1" * 64})
    found = words_of(stated)
    assert asked == [] and found.tokenizer is None and "not fetched from a network unasked" in str(found.problem)


@pytest.mark.parametrize("name", ["/dev/zero", "/etc/passwd", "x" * 5000, "a\0b", "~nobody-here/x", ""])
def test_any_name_of_a_tokenizer_is_only_a_name(name: str) -> None:
    stated = Vocabulary.from_json({**MODERNBERT.to_json(), "name": name[:1000], "digest": "1" * 64})
    assert words_of(stated).tokenizer is None


def test_ids_that_no_vocabulary_has_are_refused_in_words(tokenizer) -> None:
    """Shards of uint16 whose index says int16 have negative ones; and not every type holds what a loader puts in."""
    assert tokenizer.decode(np.array([50281, 42], np.uint16)).startswith("[CLS]")
    for ids in (np.array([1, -1], np.int16), np.array([1 << 40]), np.array([1 << 63], np.uint64)):
        with pytest.raises(TokenizerError, match="of no vocabulary"):
            tokenizer.decode(ids)
    loader = Loader(MODERNBERT)
    assert loader.seen(np.array([7], np.int32), "encoder").tolist() == [50281, 7, 50282]
    with pytest.raises(OrderError, match="int16, which does not hold token 50,281"):
        loader.seen(np.array([7], np.int16), "encoder")


# ---------------------------------------------------------------------------------------------------------------------
# links


@pytest.mark.parametrize("part", ["train", "pools", "validation"])
def test_a_source_that_its_owner_linked_to_another_disk_works_and_is_named_once(
    copied: Path, tmp_path: Path, part: str
) -> None:
    (copied / part / "alpha").rename(tmp_path / "disk")
    (copied / part / "alpha").symlink_to(tmp_path / "disk")
    for options in (VerifyOptions(), FULL):
        report = verify_phase(copied, options)
        assert (report.status, report.findings) == (SOUND, [])
        assert report.notes == [f"{part}/alpha is a link to {tmp_path / 'disk'}"]
    assert len(trace_step(Phase(copied), 1).rows) == 8
    shown = CliRunner().invoke(app, ["inspect", str(copied / "train"), "--number", "1"])
    assert shown.exit_code == 0, shown.output


def test_a_phase_that_its_owner_linked_to_another_disk_works(copied: Path, tmp_path: Path) -> None:
    run = tmp_path / "elsewhere"
    run.mkdir()
    (run / "pretrain").symlink_to(copied)
    assert verify_phase(run / "pretrain", FULL).findings == []
    assert len(trace_step(Phase(run / "pretrain"), 1).rows) == 8


def test_a_snapshot_of_the_hub_is_sound(smaller: Path, tmp_path: Path) -> None:
    """Every file of it is a link to the blobs beside it."""
    snapshot, blobs = tmp_path / "hub/datasets--a--b/snapshots/1234/pretrain", tmp_path / "hub/datasets--a--b/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(smaller.rglob("*"))):
        if path.is_file():
            link = snapshot / path.relative_to(smaller)
            link.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, blobs / str(number))
            link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    report = verify_phase(snapshot, FULL)
    assert (report.status, report.findings, report.notes) == (SOUND, [], [])


def test_a_shard_that_streaming_has_unpacked_is_held_against_the_index(tiny_root: Path, tmp_path: Path) -> None:
    """Its reader writes the raw shard beside the compressed one, and then every reader takes that."""
    import zstandard

    recipe = tiny_run.tiny_recipe(tiny_root, 1).changed("shards.compression=zstd", "sources.alpha.tokens=5k")
    phase = tiny_run.build(recipe, tmp_path)
    packed = sorted(phase.glob("pools/alpha/*/shard.00000.mds.zstd"))[0]
    raw = packed.with_suffix("")
    raw.write_bytes(zstandard.ZstdDecompressor().stream_reader(packed.read_bytes()).read())
    assert verify_phase(phase, FULL).findings == []
    raw.write_bytes(raw.read_bytes()[:-1] + b"\xff")
    found = {(f.where, f.reason) for f in verify_phase(phase).findings}
    assert (raw.relative_to(phase).as_posix(), "wrong_hash") in found


@pytest.mark.parametrize("name", ["shard.00000.mds", "samples.parquet", "split.json"])
def test_a_link_inside_a_split_is_a_finding(copied: Path, tmp_path: Path, name: str) -> None:
    path = sorted(copied.glob(f"pools/alpha/*/{name}"))[0]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    found = {(f.where, f.reason) for f in verify_phase(copied).findings}
    assert (path.relative_to(copied).as_posix(), "linked_file") in found


def test_a_linked_source_shows_nothing_but_splits(copied: Path, tmp_path: Path) -> None:
    """A link to a folder of something else would make its files readable as samples."""
    secret = tmp_path / "secret"
    (secret / "split").mkdir(parents=True)
    (copied / "train/alpha").rename(tmp_path / "aside")
    (copied / "train/alpha").symlink_to(secret)
    for entry in (tmp_path / "aside").iterdir():
        shutil.copytree(entry, secret / entry.name)
        (secret / entry.name / "split.json").unlink()
    with pytest.raises(ShardError, match="leaves its folder"):
        MdsReader(copied / "train").sample(0)


# ---------------------------------------------------------------------------------------------------------------------
# what was not seen


def test_the_card_is_held_against_what_the_build_wrote(copied: Path) -> None:
    card = copied / "README.md"
    text = card.read_text()
    card.write_text(f"---\nlicense: odc-by\n---\n\n{text}\n## Use\n\nMine.\n")  # as people do, and the hub asks for
    assert verify_phase(copied).status == SOUND
    for changed in (text.replace("42", "43", 1), text[:-40], "", text.replace("| alpha |", "| gamma |", 1)):
        card.write_text(changed)
        assert [(f.where, f.reason) for f in verify_phase(copied).findings] == [("README.md", "wrong_card")]
    card.unlink()
    assert [f.where for f in verify_phase(copied).findings] == ["README.md"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("totals", "tokens"), 5),
        (("sources", "alpha", "documents"), 5),
        (("sources", "beta", "rejected"), {}),
        (("sources", "beta", "files"), 7),
        (("sources", "alpha", "roots"), {}),
        (("order", "seed"), 22),
        (("roots", "train"), "0" * 64),
        (("layout", "length"), 127),
        (("recipe", "bad_input", "max_rejects"), 0.9),
        (("vocabulary", "pad"), 4),
        (("vocabulary", "frame", "close"), None),
    ],
)
def test_a_run_that_says_other_numbers_is_found(copied: Path, place: tuple[str, ...], value: object) -> None:
    body = at = sealed_json.read(copied / "run.json")
    for part in place[:-1]:
        at = at[part]
    assert at[place[-1]] != value
    at[place[-1]] = value
    tamper.replace_text(copied / "run.json", sealed_json.seal(body))
    assert "run.json" in {f.where for f in verify_phase(copied).findings}


STRAYS = [
    ("train/alpha/{split}/notes.txt", "stray_file"),
    ("pools/alpha/{split}/shard.00077.mds", "stray_file"),
    ("order/interval_000099.parquet", "stray_file"),
    ("train/gamma/part-tokenized-chunked-x/index.json", "stray_folder"),
    ("validation/alpha/part_0099-x/index.json", "stray_folder"),
]


@pytest.mark.parametrize(("name", "reason"), STRAYS)
def test_what_lies_among_the_splits_is_a_finding(copied: Path, name: str, reason: str) -> None:
    part = name.partition("/")[0]
    split = sorted((copied / part / "alpha").iterdir())[0].name if "{split}" in name else ""
    path = copied / name.format(split=split)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("what is this?")
    where = path if reason == "stray_file" else path.parent
    assert (where.relative_to(copied).as_posix(), reason) in {
        (f.where, f.reason) for f in verify_phase(copied).findings
    }


def test_what_lies_elsewhere_is_noted(copied: Path) -> None:
    (copied / "thesis.txt").write_text("mine")
    (copied / "train/alpha/.DS_Store").write_text("the system's")
    report = verify_phase(copied)
    assert (report.status, report.notes) == (SOUND, ["not of this run, and read by nobody: thesis.txt (1)"])
    for number in range(30):
        (copied / f"train/alpha/plot-{number}.png").touch()
    (note,) = verify_phase(copied).notes
    assert "thesis.txt, train/alpha/plot-0.png" in note and note.endswith(", … (31)")


def test_a_pool_split_of_another_seed_is_found(tiny_root: Path, copied: Path, tmp_path: Path) -> None:
    """Built with another seed, put in the place of the true one, and every hash and digest of the run made right."""
    other = tiny_run.build(tiny_run.tiny_recipe(tiny_root, seed=7), tmp_path / "other")
    name = sorted((copied / "pools/alpha").iterdir())[0].name
    shutil.rmtree(copied / "pools/alpha" / name)
    shutil.copytree(other / "pools/alpha" / name, copied / "pools/alpha" / name)
    tamper.forge_phase(copied)
    found = [f for f in verify_phase(copied).findings if f.unit == f"pools/alpha/{name}"]
    assert "wrong_origin" in {f.reason for f in found} and any("seed 7" in f.detail for f in found)


def test_a_mix_of_another_pool_is_found(tiny_root: Path, copied: Path, tmp_path: Path) -> None:
    other = tiny_run.build(tiny_run.tiny_recipe(tiny_root, seed=7), tmp_path / "other")
    for path in sorted((other / "validation").glob("*/*/")):
        target = copied / path.relative_to(other)
        if target.exists():
            shutil.rmtree(target)
            shutil.copytree(path, target)
            name = target.relative_to(copied).as_posix()
            break
    tamper.forge_phase(copied)
    assert "wrong_origin" in {f.reason for f in verify_phase(copied).findings if f.unit == name}


@pytest.mark.parametrize("part", ["pools", "train", "validation"])
def test_a_split_that_was_dropped_from_the_digests_is_found(copied: Path, part: str) -> None:
    body = sealed_json.read(copied / "digests.json")
    source, splits = next(
        (s, splits) for s, splits in body["parts"][part].items() if len(splits) > 1 or part != "pools"
    )
    split = next(iter(splits))
    tree = copied / "digests.json"
    del splits[split]
    tamper.replace_text(tree, sealed_json.seal(body))
    from ettin_data.storage import digests

    parts = {
        part: {source: {folder: digests.Entry(**e) for folder, e in s.items()} for source, s in sources.items()}
        for part, sources in body["parts"].items()
    }
    made = digests.Digests(body["phase"], body["roots"]["order"], parts, body["files"])
    tamper.replace_text(tree, sealed_json.seal(made.to_json()))
    tamper.forge_phase(copied)
    found = {(f.where, f.reason) for f in verify_phase(copied).findings}
    wanted = (f"pools/{source}", "lost_split") if part == "pools" else (f"{part}/{source}/{split}", "stray_folder")
    assert wanted in found


def test_the_ordinary_things_that_users_do_leave_a_run_sound(tiny_recipe, copied: Path) -> None:
    """Built again with --rebuild, with the order removed, without its run.json, with a foreign process's leftovers."""
    out = copied.parent
    for change in ("rebuild", "no order", "stopped", "no card"):
        if change == "no order":
            shutil.rmtree(copied / "order")
        if change == "stopped":
            (copied / "run.json").unlink()
            shutil.rmtree(sorted((copied / "train/alpha").iterdir())[0])
        if change == "no card":
            (copied / "README.md").unlink()
        tiny_run.run.build_phase(tiny_recipe, BuildOptions(out, None, None, rebuild=change == "rebuild"))
        for options in (VerifyOptions(), FULL):
            report = verify_phase(copied, options)
            assert (report.status, report.findings, report.notes) == (SOUND, [], []), change


BODIES = ['{"recipe":5}', "[]", '{"recipe":{"length":"x"}}', '{"a":' * 100_000, "", "null", '{"sources":{"evil":5}}']
COMMANDS = (
    "trace {} --step 1",
    "view {} --step 1 --out {}.html",
    "exposure {}",
    "diff {} {}",
    "inspect {}/train --number 1",
    "order verify --data {}/train --published {}",
    "export {} --to parquet --out {}.out",
)
"""What looks into a run; each is tried with one of the bodies, and `verify` with all."""


@pytest.mark.parametrize("file", ["run.json", "order/order.json", "digests.json", "plan.json", "train/index.json"])
def test_commands_say_it_in_words(smaller: Path, file: str) -> None:
    """Not one ends in a traceback, whatever stands there."""
    before = (smaller / file).read_bytes()
    for body, command in zip(BODIES, COMMANDS, strict=True):
        (smaller / file).write_text(body)
        for words in (command, "verify {} --workers 1 --full"):
            done = CliRunner().invoke(app, words.replace("{}", str(smaller)).split())
            ours = isinstance(done.exception, SystemExit | EttinError | NotOrdinary | None)
            assert ours, (words, file, body[:30], done.exception)
    (smaller / file).write_bytes(before)
    assert verify_phase(smaller).status == SOUND
