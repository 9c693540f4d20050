"""A plan as a contract: a pilot's rates and intervals, what a build makes of them, and what two plans differ in."""

import functools
import gzip
import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from contamination_kit import rng_of, sentence
from hypothesis import given
from hypothesis import strategies as st
from laws import golden
from typer.testing import CliRunner

from ettin_data.base.errors import RecipeError
from ettin_data.build.build import build_phase
from ettin_data.build.forecast import measured as measured_module
from ettin_data.build.forecast import pilot, sampling
from ettin_data.build.forecast.contract import contract_of
from ettin_data.build.forecast.estimates import Figure, rates, t90, total
from ettin_data.build.forecast.measured import MeasuredFile, MeasuredSource
from ettin_data.build.forecast.outcome import bytes_on_disk
from ettin_data.build.plan_diff import open_side, plan_diff
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.cli.main import app
from ettin_data.demo import demo
from ettin_data.executor import ExecutorOptions
from ettin_data.recipe import load_recipe
from ettin_data.storage.phase import Phase


def measured(files, file, sizes, tokens, **changes):
    """A pilot that found these files (bytes, records, bytes of text) and took these documents of them."""
    whole = {
        "asked": "1%", "at": 0.0, "filtered": {}, "tokens_in": sum(tokens), "tokens_out": sum(tokens), "samples": 1,
        "bytes_out": 2 * sum(tokens), "bytes_split": 0, "read_cpu_s": 1.0, "read_s": 1.0, "make_cpu_s": [1.0],
        "make_s": [1.0], "memory": 1,
    }  # fmt: skip
    return MeasuredSource(
        files=[MeasuredFile(bytes=b, records=r, rejected=0, text_bytes=t) for b, r, t in files],
        file=file, text_bytes=sizes, tokens=tokens, **{**whole, **changes},
    )  # fmt: skip


DOCUMENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5000), st.integers(0, 2000)), min_size=1, max_size=40)


@given(DOCUMENTS)
def test_a_sample_of_all_is_no_estimate(documents):
    """Where every file was read and every document taken, the rates give what there is, and the interval is a point."""
    held = [[d for d in documents if d[0] == n] for n in range(4)]
    files = [(100 + 10 * n, len(each), sum(size for _, size, _ in each)) for n, each in enumerate(held)]
    in_order = [d for each in held for d in each]
    sizes, tokens = [size for _, size, _ in in_order], [number for _, _, number in in_order]
    found = rates(measured(files, [n for n, _, _ in in_order], sizes, tokens), sum(size for size, _, _ in files))
    assert found.spread == 0
    assert found.tokens * sum(size for size, _, _ in files) == pytest.approx(sum(tokens))
    assert found.documents * sum(size for size, _, _ in files) == pytest.approx(sum(1 for number in tokens if number))


def test_nine_in_ten_intervals_hold_the_truth():
    """Of 200 sources whose files differ, each looked into by some files and some of their documents."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(200):
        made = []
        for _ in range(40):
            sizes = rng.lognormal(6, 1, 60).astype(int) + 20
            per_byte, packed = rng.uniform(0.2, 0.3), rng.uniform(0.3, 0.5)
            tokens = np.maximum(sizes * per_byte * rng.lognormal(0, 0.2, 60), 1).astype(int)
            made.append((int(sizes.sum() * packed), sizes, tokens))
        listed, truth = sum(b for b, _, _ in made), sum(t.sum() for _, _, t in made)
        taken = [rng.choice(60, 25, replace=False) for _ in range(6)]
        files = [(b, 60, int(s.sum())) for b, s, _ in made[:6]]
        sample = [(n, int(made[n][1][i]), int(made[n][2][i])) for n in range(6) for i in taken[n]]
        found = rates(measured(files, *([d[k] for d in sample] for k in range(3))), listed)
        held += Figure(listed * found.tokens, found.spread * listed * found.tokens).holds(truth)
    assert 0.84 <= held / 200 <= 0.97


@given(st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1e9)), max_size=5))
def test_sums_of_figures(parts):
    figures = [Figure(*part) for part in parts]
    made = total(figures)
    assert made.value == pytest.approx(sum(value for value, _ in parts))
    assert max([half for _, half in parts], default=0) <= made.half * (1 + 1e-9)
    assert made.half <= sum(half for _, half in parts) * (1 + 1e-9)
    assert total([*figures, None]) is None and (Figure(1.0) + Figure(1.0, 1.0)).half is None


def test_students_t_falls_to_that_of_the_normal_distribution():
    values = [t90(freedom) for freedom in (0, 1, 2, 3, 6, 9, 15, 50, 500, 5000)]
    assert values == sorted(values, reverse=True) and values[1] == 6.31 and values[-1] == 1.645


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "many", "-5", "1.5"])
def test_a_pilot_of_nothing_is_refused(text):
    with pytest.raises(RecipeError, match="--pilot"):
        pilot.parse_ask(text)


# ---------------------------------------------------------------------------------------------------------------------
# on a mix that is built


@pytest.fixture(scope="module")
def mix(tmp_path_factory):
    """A recipe of two sources, `many` with more than its target in six files, `few` that is taken twice; not built."""
    folder = tmp_path_factory.mktemp("mix")
    rng = rng_of("pilot")
    for source, files, documents in (("many", 6, 30), ("few", 3, 12)):
        (folder / source).mkdir()
        for n in range(files):
            rows = [
                {"id": f"{n}-{i}", "text": " ".join(sentence(rng, rng.randrange(5, 90)) for _ in range(3))}
                for i in range(documents)
            ]
            (folder / source / f"{n}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\nno record\n")
    (folder / "tokenizer.json").write_text(json.dumps(golden.tokenizer(), sort_keys=True))
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    recipe = {
        "phase": "mixed", "length": 128, "pack": {"min_length": 16, "always_skip": 4}, "order": {"batch": 4},
        "validation": 0.02, "split_bytes": 1, "filters": [{"length": {"min_words": 60}}],
        "bad_input": {"max_rejects": 0.5}, "tokenizer": {"name": str(folder / "tokenizer.json"), "sha256": digest},
        "sources": {
            "many": {"root": str(folder / "many"), "tokens": 30_000},
            "few": {"root": str(folder / "few"), "passes": 2},
        },
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Pilots of this test alone."""
    monkeypatch.setattr(measured_module, "cache_folder", lambda: tmp_path / "cache")


class Heard:
    """A `Progress` that keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)

    def start(self, title, jobs, work): ...
    def advance(self, work, tokens=0, note=""): ...
    def done(self): ...


def test_a_pilot_of_all_promises_what_the_build_makes(mix, cache, tmp_path, monkeypatch):
    heard = Heard()
    recipe, options = load_recipe(mix / "recipe.yaml"), BuildOptions(tmp_path / "run", executor=None, progress=heard)
    resolved = resolve(recipe, options)
    before = contract_of(resolved, 0)
    assert before.asked == {} and not before.measured
    assert (before.documents, before.wall_s, before.memory, before.tokens.half) == (None, None, None, None)
    pilot.make_pilots(resolved, "100%", heard)
    assert not (tmp_path / "run").exists(), "a pilot writes nothing into a run"
    promised = contract_of(resolved, 0, price=3600.0)
    assert promised.measured and promised.missing_splits == sum(s.splits for s in promised.sources.values())
    assert promised.cost.value == pytest.approx(promised.wall_s.value)

    def read_again(*_):
        raise AssertionError("a second plan reads what is kept")

    monkeypatch.setattr(pilot, "sample", read_again)
    pilot.make_pilots(resolved, "100%", heard)
    made = build_phase(recipe, options)
    for key, source in promised.sources.items():
        row = made.sources[key]
        assert source.tokens.value == pytest.approx(row.pool_tokens, rel=1e-6), key
        assert source.splits == row.splits and source.tokens.half == 0
        used = row.records - sum(row.rejected.values()) - sum(row.filtered.values())
        assert source.documents.value == pytest.approx(used)
        assert 0 < source.filtered < 1 and source.rejected == pytest.approx(sum(row.rejected.values()) / row.records)
        assert source.passes.value == pytest.approx(row.passes, rel=0.1)
    phase = Phase(tmp_path / "run/mixed", "mixed")
    assert promised.at_end.value == pytest.approx(bytes_on_disk(phase), rel=0.15)
    (outcome,) = (said for said in heard.said if said.startswith("how the plan came out"))
    assert "(with a pilot)" in outcome and "tokens of the pools" in outcome and "+0.0%" in outcome
    assert contract_of(resolved, 0).missing_splits == 0

    there = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "run").rglob("*"))}
    shown = CliRunner().invoke(app, ["plan", str(mix / "recipe.yaml"), "--out", str(tmp_path / "run")])
    assert shown.exit_code == 0 and "pilot of 100%" in shown.output
    assert there == {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "run").rglob("*"))}


def test_a_part_of_it_holds_the_truth_in_its_interval(mix, cache, tmp_path):
    resolved = resolve(load_recipe(mix / "recipe.yaml"), BuildOptions(tmp_path / "run"))
    pilot.make_pilots(resolved, "100%", Heard())
    truth = contract_of(resolved, 2)
    pilot.make_pilots(resolved, "80", Heard())
    found = contract_of(resolved, 2)
    assert found.asked == {"few": "80", "many": "80"}
    many = found.sources["many"]
    assert many.tokens.half > 0 and many.tokens.low < truth.sources["many"].tokens.value < many.tokens.high
    assert contract_of(resolved, 2).sources == found.sources


def test_ids_of_a_large_vocabulary_take_four_bytes(tmp_path, cache):
    from test_other_vocabularies import FRAME, WORDS, write_tokenizer

    digest = write_tokenizer(tmp_path / "tokenizer.json", ("<pad>", "<eos>", "<bos>", "<mask>"), more=66_000)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.jsonl").write_text(json.dumps({"id": "a", "text": " ".join(WORDS * 9)}) + "\n")
    recipe = {
        "phase": "wide", "length": 64, "pack": {"min_length": 16, "always_skip": 4},
        "tokenizer": {"name": str(tmp_path / "tokenizer.json"), "sha256": digest, "frame": FRAME},
        "sources": {"mine": {"root": str(tmp_path / "mine"), "tokens": 1000}},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    resolved = resolve(load_recipe(tmp_path / "recipe.yaml"), BuildOptions(tmp_path / "run"))
    assert load_recipe(tmp_path / "recipe.yaml").shards.token_dtype is None
    assert resolved.plan.output_bytes(1000) >= 4000


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["decay", "pretrain"])
def test_the_demo_comes_out_as_it_was_planned(phase, tmp_path, monkeypatch):
    """Tokens within 2%, disk within 10%. Time is not asked for: a machine that others use keeps no promise."""
    monkeypatch.setattr(measured_module, "cache_folder", lambda: tmp_path / "cache")
    demo.mirror(tmp_path)
    recipe = next(each for each in demo.recipes() if each.phase == phase)
    heard = Heard()
    options = BuildOptions(tmp_path / "run", str(demo.mirror_folder(tmp_path)), ExecutorOptions(workers=2))
    options = replace(options, progress=heard)
    resolved = resolve(recipe, options)
    pilot.make_pilots(resolved, "25%", heard, workers=2)
    promised = contract_of(resolved, 2)
    made = build_phase(recipe, options)
    held = sum(row.pool_tokens for row in made.sources.values())
    on_disk = bytes_on_disk(Phase(tmp_path / "run" / phase, phase))
    assert promised.tokens.value == pytest.approx(held, rel=0.02), heard.said
    assert promised.at_end.value == pytest.approx(on_disk, rel=0.10), heard.said


# ---------------------------------------------------------------------------------------------------------------------
# two plans


@pytest.fixture(scope="module")
def two(mix):
    """The mix built as it is, and once more with a smaller `many` and another filter for `few`."""
    one = load_recipe(mix / "recipe.yaml")
    other = load_recipe(
        mix / "recipe.yaml",
        overrides=["sources.many.tokens=20000", "sources.few.filters=[{length: {min_words: 100}}]"],
    )
    for name, recipe in (("a", one), ("b", other)):
        build_phase(recipe, BuildOptions(mix / name, executor=None))
    return mix / "a/mixed", mix / "b/mixed"


def test_two_runs_say_what_changed_between_them(two):
    found = plan_diff(open_side(str(two[0])), open_side(str(two[1])))
    assert {change.path for change in found.recipe} == {"sources.many.tokens", "sources.few.filters"}
    assert found.targets == {"many": (30_000, 20_000)}
    few, many = found.pools["few"], found.pools["many"]
    assert many.same > 0 and not many.anew and few.same == 0 and few.anew == {"filters": 3}
    taken = found.documents
    assert taken["many"].leave > 0 and taken["few"].enter == 0 and taken["few"].leave > 0
    same = plan_diff(open_side(str(two[0])), open_side(str(two[0])))
    assert not (same.recipe or same.targets or same.unknown)
    assert all(part.leave == part.enter == 0 for part in same.documents.values())


def test_a_recipe_beside_a_run_says_which_pools_would_be_used_again(two, mix):
    found = plan_diff(open_side(str(two[0])), open_side(str(mix / "recipe.yaml")))
    assert not found.recipe and all(not pool.anew for pool in found.pools.values())
    assert found.pools["few"].same == 3 and found.documents is None and found.unknown


def test_the_commands_say_it(two, mix):
    shown = CliRunner().invoke(app, ["plan", "diff", *map(str, two)])
    assert shown.exit_code == 0, shown.output
    assert "sources.many.tokens: 30000 -> 20000" in shown.output and "3 made anew: filters" in shown.output
    plain = json.loads(CliRunner().invoke(app, ["plan", "diff", *map(str, two), "--json"]).stdout)
    assert plain["targets"] == {"many": [30_000, 20_000]}
    runs = CliRunner().invoke(app, ["diff", *map(str, two)])
    assert runs.exit_code == 1 and runs.output.startswith("mixed: 2 keys of the recipes differ")
    planned = CliRunner().invoke(app, ["plan", str(mix / "recipe.yaml"), "--out", str(mix / "none"), "--json"])
    assert set(json.loads(planned.stdout)["contract"]["sources"]) == {"few", "many"}
    assert isinstance(CliRunner().invoke(app, ["plan", "decay", "--pilot", "none"]).exception, RecipeError)


# ---------------------------------------------------------------------------------------------------------------------
# large files


@functools.cache
def lines_of(number):
    rng = rng_of("large")
    rows = [{"id": str(i), "text": f"{i} {sentence(rng, 120)}"} for i in range(number)]
    return rows, "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_gzip(path, rows, data):
    path.write_bytes(gzip.compress(data))


def as_zstd(path, rows, data):
    path.write_bytes(zstandard.compress(data))


def as_lines(path, rows, data):
    path.write_bytes(data)


def as_parquet(path, rows, data):
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100, compression="none", use_dictionary=False)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.jsonl.gz", as_gzip), ("a.jsonl.zst", as_zstd), ("a.jsonl", as_lines), ("a.parquet", as_parquet)],
)
def test_of_a_large_file_a_part_stands_for_the_whole(name, write, mix, cache, tmp_path, monkeypatch):
    rows, data = lines_of(3000)
    (tmp_path / "big").mkdir()
    write(tmp_path / "big" / name, rows, data)
    monkeypatch.setattr(sampling, "_LEAST_BYTES", (tmp_path / "big" / name).stat().st_size // 8)
    recipe = load_recipe(
        mix / "recipe.yaml", drop_sources=["few", "many"], add_sources=[f"big={tmp_path / 'big'}:10k"],
        overrides=["filters=[]", "split_bytes=512MiB"],
    )  # fmt: skip
    resolved = resolve(recipe, BuildOptions(tmp_path / "run"))
    found = sampling.sample(resolved, resolved.plan.sources["big"], 300)
    assert 200 < found.looked[0].records < 1500 and found.looked[0].rejected == 0 and len(found.documents) == 300
    sizes = [len(row["text"]) for row in rows]
    whole, read = (tmp_path / "big" / name).stat().st_size, found.looked[0]
    block = 128 << 10  # of zstd, which ends with a whole one
    assert read.text_bytes / read.file.bytes * whole == pytest.approx(
        sum(sizes), abs=0.05 * sum(sizes) + ("zst" in name) * block * whole / read.file.bytes
    )
