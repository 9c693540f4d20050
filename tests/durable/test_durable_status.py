"""How far a build is, read of its folder: the same numbers from everywhere, and not a byte or a lock for it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
import share_process
import tiny_run
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ettin_data.base.errors import BuildError, EttinError
from ettin_data.base.lock import locked
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions, keep_plan, resolve
from ettin_data.build.share_build import build_share
from ettin_data.build.shares import Share
from ettin_data.cli.main import app
from ettin_data.cli.watching import in_a_line, view
from ettin_data.inspect.metrics import exposition
from ettin_data.inspect.status import BUILDING, FINISHED, PLANNED, STOPPED, PhaseStatus, SourceStatus, Watcher, watchers
from ettin_data.recipe import Recipe
from ettin_data.storage import records, worklog
from ettin_data.storage.phase import LOGS, Phase
from ettin_data.storage.worklog import Beat
from ettin_data.verify import verify_phase


def here(out: Path) -> BuildOptions:
    return BuildOptions(out, executor=None)


def look(run: Path) -> list[PhaseStatus]:
    return [watcher.look() for watcher in watchers(run)]


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(folder.rglob("*"))}


# ---------------------------------------------------------------------------------------------------------------------
# states


def test_from_a_plan_to_a_finished_run(tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="there is no run here"):
        look(tmp_path)
    assert keep_plan(resolve(tiny_recipe, here(tmp_path))) is None
    assert look(tmp_path)[0].state == PLANNED
    build_share(tiny_recipe, here(tmp_path), Share(1, 2))
    [stopped] = look(tmp_path)
    assert stopped.state == STOPPED and 0 < stopped.total.splits < stopped.total.planned_splits == 6
    made = run.build_phase(tiny_recipe, here(tmp_path))
    [done] = look(tmp_path / "pretrain")
    assert (done.state, done.root, done.total.seconds_left, done.workers) == (FINISHED, made.root, 0.0, ())
    for key, source in done.sources.items():
        built = made.sources[key]
        assert (source.splits, source.tokens, source.records) == (built.splits, built.pool_tokens, built.records)
        assert source.rejected == sum(built.rejected.values())
        assert (
            source.bytes
            == source.planned_bytes
            == records.read_plan(Phase(tmp_path / "pretrain", "")).sources[key].input_bytes
        )
    assert done.sources["beta"].rejected > 0 == done.sources["alpha"].rejected


def test_looking_changes_nothing_and_takes_no_lock(tiny_phase: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(tiny_phase)

    def refuse(*_: object) -> None:
        raise AssertionError("a lock was taken")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for words in (
        ["status", str(tiny_phase)],
        ["status", str(tiny_phase), "--json"],
        ["status", str(tiny_phase.parent), "--follow"],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    assert everything(tiny_phase) == before


def test_a_killed_build_is_seen_to_be_gone_and_one_at_work_to_be_there(tiny_recipe: Recipe, tmp_path: Path) -> None:
    process = share_process.start(tiny_recipe, tmp_path, "1/1")
    states = set()
    while process.is_alive():
        try:
            [status] = look(tmp_path)
        except EttinError:  # it has not planned yet
            continue
        states.add(status.state)
        if status.begun and status.state == BUILDING:
            assert status.workers[0].who == "share 1/1" and status.workers[0].pid == process.pid
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    assert BUILDING in states
    [status] = look(tmp_path)
    assert status.state == STOPPED and not status.workers[0].alive
    shown = CliRunner().invoke(app, ["status", str(tmp_path)]).output
    assert "not at work: the same command continues" in shown and "gone, its last word" in shown
    assert CliRunner().invoke(app, ["status", str(tmp_path), "--follow"]).exit_code == 3
    assert run.build_phase(tiny_recipe, here(tmp_path)).root
    assert look(tmp_path)[0].workers == ()


def test_what_failed_is_named_with_its_log(tiny_root: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    tiny_run.write_sources(tmp_path / "src")
    (tmp_path / "src/alpha/part-0002.jsonl.gz").write_bytes(b"\x1f\x8b no gzip \x1b[31m")
    recipe = tiny_recipe.changed(f"sources.alpha.root={tmp_path}/src/alpha")
    with pytest.raises(EttinError, match=r"part-0002\.jsonl\.gz"):
        run.build_phase(recipe, here(tmp_path / "run"))
    [status] = look(tmp_path / "run")
    assert [split.name.partition("/")[0] for split in status.failures] == ["alpha"] and status.state == STOPPED
    assert "part-0002.jsonl.gz" in status.failures[0].text and "part-0002" in status.workers[0].ended
    log = (tmp_path / "run/pretrain" / status.failures[0].log).read_text()
    assert " began " in log and " failed " in log and "\x1b" not in log
    shown = CliRunner().invoke(app, ["status", str(tmp_path / "run")]).output
    assert "failed: alpha/" in shown and f"log: {LOGS}/alpha/" in shown and "\x1b[31m" not in shown


def test_what_is_made_again_is_not_counted(tiny_root: Path, copied: Path, tiny_recipe: Recipe) -> None:
    """A changed option makes finished splits stale: they are there, and wait to be replaced."""
    beat = Beat.of_this_process("")
    beat.again = [f"pools/alpha/{name}" for name in records.read_plan(Phase(copied, "")).split_files["alpha"]]
    Phase(copied, "pretrain").run_json.unlink()
    beat.write(Phase(copied, "pretrain").beat(""))
    [status] = look(copied)
    assert status.state == BUILDING and status.sources["alpha"].splits == 0 < status.sources["beta"].splits


def test_logs_are_of_no_digest_and_verify_knows_them(copied: Path) -> None:
    logs = sorted(path for path in (copied / LOGS).rglob("*") if path.is_file())
    assert len(logs) == 6 and all(re.search(r" finished [\d,]+ records", log.read_text()) for log in logs)
    for log in logs:
        log.write_text("something else")
    report = verify_phase(copied)
    assert report.sound and not any("not of this run" in note for note in report.notes)


@given(st.text(max_size=300), st.sampled_from(["began", "finished", "failed", "stopped"]))
def test_an_entry_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, text: str, word: str) -> None:
    log = tmp_path_factory.mktemp("log") / "a.log"
    worklog.note(log, "began", "3 files")
    worklog.note(log, word, text)
    entry = worklog.last_entry(log)
    assert entry is not None and entry.word == word and entry.who.endswith(f"/{os.getpid()}")
    assert abs(entry.at - time.time()) < 60


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"2026 x began", b"\x1b[2J failed", b"2026-13-99T99:99:99+0000 h/1 failed x"]
)
def test_a_foreign_log_or_beat_says_nothing(copied: Path, content: bytes) -> None:
    for log in (copied / LOGS).rglob("*.log"):
        log.write_bytes(content)
    (copied / ".work").mkdir(exist_ok=True)
    (copied / ".work/build.json").write_bytes(content)
    os.mkfifo(copied / LOGS / "alpha/pipe.log")
    [status] = look(copied)
    assert status.state == FINISHED and not status.failures and not status.workers


def test_a_beat_of_another_machine_lives_as_long_as_it_beats(tmp_path: Path) -> None:
    beat = Beat.of_this_process("3/64")
    beat.write(tmp_path / "beat")
    read = worklog.read_beat(tmp_path / "beat")
    assert read is not None and read == beat and read.alive and read.who == "share 3/64"
    read.host = "elsewhere"
    assert read.alive
    read.seen -= 3600
    assert not read.alive
    beat.began = "another process with this number"
    assert not beat.alive


# ---------------------------------------------------------------------------------------------------------------------
# how it is shown

NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=60)
NUMBERS = st.integers(0, 1 << 52)


@st.composite
def statuses(draw: st.DrawFn) -> PhaseStatus:
    def source() -> SourceStatus:
        speed = draw(st.none() | st.floats(0, 1e12))
        return SourceStatus(*(draw(NUMBERS) for _ in range(10)), speed, draw(st.none() | st.floats(0, 1e10)))

    keys = draw(st.lists(NAMES, max_size=5, unique=True))
    return PhaseStatus(
        "decay", 0.0, draw(st.sampled_from([BUILDING, STOPPED])), source(), {key: source() for key in keys}
    )


@given(statuses(), st.sampled_from([40, 80, 140]))
def test_no_line_is_wider_than_the_terminal(status: PhaseStatus, width: int) -> None:
    import io

    from ettin_data.bar import Screen

    console = Screen(file=io.StringIO(), width=width, force_terminal=False)
    lines = console.render_lines(view(status, width), pad=False)
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)
    assert "\n" not in in_a_line(status)


@given(statuses())
def test_metrics_are_prometheus_text(status: PhaseStatus) -> None:
    sample = re.compile(r'ettin_data_[a-z_]+\{([a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\} -?[\d.]+(e[+-]\d+)?')
    known: set[str] = set()
    for line in exposition([status]).rstrip("\n").split("\n"):
        if line.startswith(("# HELP ", "# TYPE ")):
            known.add(line.split()[2])
        else:
            assert sample.fullmatch(line), line
            assert line.partition("{")[0] in known


def test_names_that_break_the_format_are_escaped() -> None:
    text = exposition([PhaseStatus('a"b\\c\nd', 0.0, BUILDING, SourceStatus(), {"x": SourceStatus()})])
    assert 'phase="a\\"b\\\\c\\nd"' in text


def command(recipe: Recipe, tmp_path: Path, *words: str) -> list[str]:
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.model_dump_json())
    return [
        sys.executable,
        "-m",
        "ettin_data.cli",
        "build",
        str(file),
        "--out",
        str(tmp_path / "run"),
        "--workers",
        "1",
        *words,
    ]


@pytest.mark.parametrize("columns", [80, pytest.param(140, marks=pytest.mark.slow)])
def test_on_a_terminal_nothing_is_wider_than_it(tiny_recipe: Recipe, tmp_path: Path, columns: int) -> None:
    """A real pseudo terminal, of which every line is measured as a terminal would draw it."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "CI"):
        environment.pop(name, None)
    process = subprocess.Popen(
        command(tiny_recipe, tmp_path), stdin=follower, stdout=subprocess.DEVNULL, stderr=follower, env=environment
    )
    os.close(follower)
    drawn = bytearray()

    def read() -> None:
        try:
            while data := os.read(leader, 65536):
                drawn.extend(data)
        except OSError:  # the terminal is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(120) == 0
    reader.join(5)
    os.close(leader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert max(map(len, lines)) <= columns
    for word in ("source", "splits", "tokens", "rejects", "left", "alpha", "beta", "total", "4/4", "2/2", "done"):
        assert any(word in line for line in lines), word


def test_events_lines_and_metrics(tiny_recipe: Recipe, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics/ettin.prom"
    done = subprocess.run(
        command(tiny_recipe, tmp_path, "--json", "--metrics", str(metrics)),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "stage" and kinds[-1] == "finished" and kinds.count("job") >= 6
    assert events[-1]["root"] == json.loads((tmp_path / "run/pretrain/run.json").read_text())["root"]
    assert all(event["phase"] == "pretrain" and event["at"] > 1e9 for event in events)
    assert 'ettin_data_splits{phase="pretrain",source="alpha"} 4\n' in metrics.read_text()
    assert 'ettin_data_state{phase="pretrain",state="finished"} 1\n' in metrics.read_text()
    again = subprocess.run(
        command(tiny_recipe.changed("seed=7"), tmp_path), capture_output=True, text=True, timeout=120, check=True
    )
    lines = again.stderr.splitlines()
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d pretrain tokenize: 6 to do", line) for line in lines)
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d pretrain tokenize: 6/6 done in .*", line) for line in lines)


def test_a_log_gets_a_line_a_minute(tiny_phase: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from ettin_data.bar import Screen
    from ettin_data.cli import watching

    monkeypatch.setattr(watching, "LINE_S", 0.2)
    out = io.StringIO()
    with watching.Watching(Phase(tiny_phase, "pretrain"), "pretrain", Screen(file=out, width=80)) as progress:
        progress.start("tokenize", 6, 100)
        time.sleep(1.8)
        progress.done()
    lines = [line for line in out.getvalue().splitlines() if "6/6 splits" in line]
    assert 2 <= len(lines) <= 10 and all(re.search(r"tokens, \d+ rejects$", line) for line in lines)


def test_a_lock_that_is_held_does_not_hold_who_looks(tiny_phase: Path) -> None:
    with locked(Phase(tiny_phase, "").lock):
        assert Watcher(Phase(tiny_phase, "pretrain")).look().state == FINISHED
