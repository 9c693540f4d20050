"""The guard of the benchmarks fails when it has to; the short benchmarks know what they measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import baseline, everything, quick
from benchmarks.baseline import Line, compare


def problems(measured: dict[str, float], known: dict[str, float]) -> dict[str, str]:
    return {line.name: problem for line in compare(measured, known) if (problem := line.problem())}


@pytest.mark.parametrize("share, fails", [(0.74, True), (0.76, False), (1.0, False), (3.0, False)])
def test_a_fall_of_more_than_a_quarter_fails(share: float, fails: bool) -> None:
    assert bool(problems({"speed": 0.8 * share}, {"speed": 0.8})) == fails


@given(st.dictionaries(st.text(min_size=1), st.floats(1e-3, 1e3), min_size=1), st.data())
def test_every_ratio_is_judged_by_itself(known: dict[str, float], data: st.DataObject) -> None:
    shares = {name: data.draw(st.floats(0.1, 2), label=name) for name in known}
    measured = {name: known[name] * share for name, share in shares.items()}
    expected = {name for name in known if measured[name] / known[name] - 1 < -0.25}
    assert set(problems(measured, known)) == expected


def test_a_ratio_may_have_a_tolerance_of_its_own() -> None:
    lines = compare({"growth": 0.6, "speed": 0.6}, {"growth": 1.0, "speed": 1.0}, {"growth": 0.5})
    assert [line.problem() for line in lines] == [None, "fell by 40%, more than 25%"]


def test_a_ratio_that_is_missing_fails_on_either_side() -> None:
    assert problems({}, {"speed": 1.0}) == {"speed": "was not measured"}
    assert "--update" in problems({"speed": 1.0}, {})["speed"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_what_is_no_ratio_fails(value: float) -> None:
    assert "is no ratio" in problems({"speed": value}, {"speed": 1.0})["speed"]


def test_the_change_is_relative_to_the_baseline() -> None:
    assert Line("speed", 0.5, 2.0).change == pytest.approx(-0.75)
    assert Line("speed", None, 2.0).change is None


def test_written_ratios_are_read_again(tmp_path) -> None:
    path = tmp_path / "baseline.json"
    assert baseline.read(path) == {}
    baseline.write({"a": 0.123456, "b": 27.0}, path)
    assert baseline.read(path) == {"a": 0.123, "b": 27.0}


def test_the_committed_baseline_names_what_is_measured() -> None:
    """A probe that is dropped or renamed without its baseline would fail only in the long run of `make bench-quick`."""
    assert set(baseline.read()) == {name for probe in quick.PROBES for name in probe.ratios}


def test_a_ratio_that_fell_is_measured_again_before_it_fails(capsys) -> None:
    """One disturbed measurement on a shared machine is no regression; two are."""
    answers = iter([{"a": 0.5, "b": 1.0}, {"a": 0.9, "b": 0.2}])
    probe = quick.Probe("probe", ("a", "b"), lambda setting: next(answers))
    known = {"a": 1.0, "b": 1.0}
    assert not quick.failures(quick.measured([probe], known, None), known)  # type: ignore[arg-type]
    twice = quick.Probe("probe", ("a", "b"), lambda setting: {"a": 0.5, "b": 1.0})
    assert set(quick.failures(quick.measured([twice], known, None), known)) == {"a"}  # type: ignore[arg-type]


def test_importing_the_package_is_light() -> None:
    """What takes seconds to import is imported where it is used: the package and its command line start in 0.2 s."""
    heavy = ("torch", "ray", "streaming", "datasets", "datatrove", "transformers", "matplotlib")
    code = f"import sys, ettin_data, ettin_data.cli.main; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_page_shows_tables_ratios_and_what_failed(tmp_path) -> None:
    rows = [{"part": part, "splits": splits, "CPU s": splits / 100} for part in ("a", "b") for splits in (10, 100)]
    plain = everything.Benchmark("plain", plot=everything.Bars("part", "CPU s", claim=0.5))
    lines = everything.Benchmark("lines", plot=everything.Lines("part", "splits", "CPU s"))
    for benchmark in (plain, lines):
        everything.draw(benchmark.plot, rows, benchmark.name, tmp_path / f"{benchmark.name}.svg")
        assert "<svg" in (tmp_path / f"{benchmark.name}.svg").read_text()
    report = {"title": "Title", "rows": [*rows, {"another": "table"}], "ratios": {"b beside a": 1.5}}
    text = everything.page([(plain, 1.0, True, [report]), (lines, 2.0, False, [])])
    assert (
        "| part | splits | CPU s |" in text
        and "| another |" in text
        and "b beside a: 1.5" in text
        and "![Title](plain.svg)" in text
    )
    assert text.count("FAILED") == 1 and text.index("FAILED") > text.index("## lines")


def test_every_benchmark_that_is_run_is_there_and_takes_a_json_file() -> None:
    for benchmark in everything.BENCHMARKS:
        source = Path(everything.__file__).with_name(f"{benchmark.name}.py").read_text()
        assert '"--json"' in source, benchmark.name
        for argument in (*benchmark.arguments, *benchmark.full):
            assert not argument.startswith("--") or f'"{argument}"' in source, (benchmark.name, argument)


def test_the_synthetic_phase_is_sound_but_for_its_order(tmp_path) -> None:
    """What `benchmarks.scale` measures is what a real phase would take: nothing of it may be refused half way."""
    from benchmarks import scale_phase
    from ettin_data.verify import verify_phase

    found = verify_phase(scale_phase.write_phase(tmp_path, 40)).findings
    assert [finding for finding in found if not finding.where.startswith("order")] == []
