"""Every bad input ends in one of two ways: a counted reject with place and reason, or an error that says the same."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import resource
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
import source_kit as kit
import zstandard

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.sources import Record, Reject, Source, SourceFile

GOOD = [{"text": f"good {n}", "id": str(n)} for n in range(3)]
LINES = kit.jsonl(GOOD)
GZ = gzip.compress(LINES * 50)


@dataclass(frozen=True)
class Case:
    name: str
    data: bytes
    texts: list[str]
    records: tuple[str, ...] = ()  # reasons of rejected records
    ends: str | None = None  # reason of the reject that ends the file
    file: str = "a.jsonl"


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def around(middle: bytes) -> bytes:
    """A bad line between good ones."""
    return kit.jsonl(GOOD[:1]) + middle + kit.jsonl(GOOD[1:2])


TWO = ["good 0", "good 1"]
ALL = ["good 0", "good 1", "good 2"]
NESTED = b'{"text": "deep", "metadata": ' + b"[" * 10_000 + b"]" * 10_000 + b"}\n"
CASES = [
    # 1. text
    Case("text missing", around(line({"id": "x"})), TWO, ("text_missing",)),
    Case("text null", around(line({"text": None})), TWO, ("text_null",)),
    Case("text empty", around(line({"text": ""})), TWO, ("text_empty",)),
    Case("text blank", around(line({"text": " \n\t\u00a0\u2003"})), TWO, ("text_blank",)),
    Case("text a number", around(line({"text": 12.5})), TWO, ("text_not_string",)),
    Case("text a list", around(line({"text": ["a"]})), TWO, ("text_not_string",)),
    Case("text an object", around(line({"text": {"a": 1}})), TWO, ("text_not_string",)),
    Case("text true", around(line({"text": True})), TWO, ("text_not_string",)),
    # 3. free-form keys
    Case(
        "other keys of any type",
        around(line({"text": "x", "metadata": "m", "doc": 3, "url": 5})),
        ["good 0", "x", "good 1"],
    ),
    # 5. characters
    Case("lone surrogate", around(b'{"text": "a\\ud83dz"}\n'), ["good 0", "a\ufffdz", "good 1"]),
    Case("a surrogate pair", around(b'{"text": "a\\ud83d\\ude00z"}\n'), ["good 0", "a\U0001f600z", "good 1"]),
    Case("NUL and controls", around(b'{"text": "a\\u0000\\u0007z"}\n'), ["good 0", "a\0\az", "good 1"]),
    Case("CRLF", LINES.replace(b"\n", b"\r\n"), ALL),
    Case("byte order mark", b"\xef\xbb\xbf" + LINES, ALL),
    Case(
        "U+2028, U+0085 and VT in a string",
        around('{"text": "a\u2028b\u0085c\x7f"}\n'.encode()),
        ["good 0", "a\u2028b\u0085c\x7f", "good 1"],
    ),
    # 6. bytes that are not UTF-8
    Case("invalid UTF-8", around(b'{"text": "a\xff\xfez"}\n'), ["good 0", "a\ufffd\ufffdz", "good 1"]),
    Case("UTF-16", '{"text": "x"}\n'.encode("utf-16"), [], ends="unsupported_encoding"),
    # 7. lines
    Case("bad JSON", around(b'{"text": "x\n'), TWO, ("bad_json",)),
    Case("single quotes", around(b"{'text': 'x'}\n"), TWO, ("bad_json",)),
    Case("two objects in a line", around(b'{"text": "a"}{"text": "b"}\n'), TWO, ("bad_json",)),
    Case("an array of records", around(b'[{"text": "a"}]\n'), TWO, ("record_not_object",)),
    Case("a bare string", around(b'"text"\n'), TWO, ("record_not_object",)),
    Case("NaN in the metadata", around(b'{"text": "x", "score": NaN}\n'), ["good 0", "x", "good 1"]),
    Case("a huge number", around(b'{"text": "x", "n": ' + b"9" * 6000 + b"}\n"), TWO, ("bad_json",)),
    Case("blank lines", around(b"\n  \n"), TWO, ("blank_line", "blank_line")),
    Case("a blank last line", LINES + b"\n", ALL, ("blank_line",)),
    Case("no newline at the end", LINES[:-1], ALL),
    Case("cut in the last line", LINES[:-5], TWO, ("bad_json",)),
    Case(
        "an id nested 1,000 deep",
        around(b'{"text": "x", "id": ' + b"[" * 1000 + b"]" * 1000 + b"}\n"),
        ["good 0", "x", "good 1"],
    ),
    Case("nested 10,000 deep", around(NESTED), TWO, ("bad_json",)),
    # 8. gzip
    Case("gzip members", gzip.compress(LINES) + gzip.compress(LINES), ALL * 2, file="a.json.gz"),
    Case("gzip members that cut a line", gzip.compress(LINES[:30]) + gzip.compress(LINES[30:]), ALL, file="a.json.gz"),
    Case("trailing garbage", gzip.compress(LINES) + b"garbage", ALL, ends="trailing_garbage", file="a.json.gz"),
    Case("trailing zeros", gzip.compress(LINES) + bytes(512), ALL, file="a.json.gz"),
    Case("gzip without its trailer", GZ[:-4], ALL * 50, ends="truncated", file="a.json.gz"),
    Case("gzip header only", GZ[:12], [], ends="truncated", file="a.json.gz"),
    Case("gzip with a broken header", GZ[:2] + b"\xff" + GZ[3:], [], ends="damaged_gzip", file="a.json.gz"),
    # 9. zstd
    Case("zstd frames", zstandard.compress(LINES) + zstandard.compress(LINES), ALL * 2, file="a.json.zst"),
    Case("zstd cut", zstandard.compress(LINES)[:-3], [], ends="truncated", file="a.json.zst"),
    # 10. names that lie
    Case("gzip named plain", gzip.compress(LINES), ALL, file="a.jsonl"),
    Case("plain named gzip", LINES, ALL, file="a.json.gz"),
    Case("zstd named gzip", zstandard.compress(LINES), ALL, file="a.json.gz"),
    Case("parquet named jsonl", kit.parquet({"text": ALL, "id": ["0", "1", "2"]}), ALL),
    Case("parquet inside gzip", gzip.compress(kit.parquet({"text": ALL})), ALL, file="a.parquet.gz"),
    Case("bzip2", b"BZh91AY&SY" + bytes(30), [], ends="damaged_bzip2"),
    Case("zip", b"PK\x03\x04" + bytes(30), [], ends="unsupported_format"),
    # 11. what is no data
    Case("an HTML page", b"<!DOCTYPE html>\n<html><body>503</body></html>", [], ends="html_instead_of_data"),
    Case("an HTML page in gzip", gzip.compress(b"\n <html>oops"), [], ends="html_instead_of_data", file="a.json.gz"),
    Case(
        "an XML error",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        [],
        ends="html_instead_of_data",
    ),
    Case(
        "a Git-LFS pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        [],
        ends="lfs_pointer",
    ),
    Case("zero bytes", b"", [], ends="empty_file"),
    Case("an empty gzip", gzip.compress(b""), [], ends="empty_file", file="a.json.gz"),
    Case("a file of NULs", bytes(4096), [], ends="not_data"),
    # 14. parquet
    Case("parquet without text", kit.parquet({"body": ALL}), [], ends="no_text_column", file="a.parquet"),
    Case(
        "parquet with odd texts",
        kit.parquet({"text": ["a", None, "", "  "]}),
        ["a"],
        ("text_null", "text_empty", "text_blank"),
        file="a.parquet",
    ),
    Case(
        "parquet with numbers for text", kit.parquet({"text": [1, 2]}), [], ("text_not_string",) * 2, file="a.parquet"
    ),
    Case(
        "parquet with lists for text",
        kit.parquet({"text": [["a"], None]}),
        [],
        ("text_not_string", "text_null"),
        file="a.parquet",
    ),
    Case("parquet of large strings", kit.parquet({"text": pa.array(ALL, pa.large_string())}), ALL, file="a.parquet"),
    Case("parquet with a dictionary", kit.parquet({"text": pa.array(ALL).dictionary_encode()}), ALL, file="a.parquet"),
    Case(
        "parquet of bytes",
        kit.parquet({"text": pa.array([b"a", b"\xff", None], pa.binary())}),
        ["a", "\ufffd"],
        ("text_null",),
        file="a.parquet",
    ),
    Case("parquet without rows", kit.parquet({"text": pa.array([], pa.string())}), [], file="a.parquet"),
    Case(
        "parquet with small row groups",
        kit.parquet({"text": ALL, "id": [1, 2, 3]}, row_group_size=1),
        ALL,
        file="a.parquet",
    ),
    Case("parquet cut", kit.parquet({"text": ALL})[:-20], [], ends="damaged_parquet", file="a.parquet"),
    Case("parquet magic only", b"PAR1", [], ends="damaged_parquet", file="a.parquet"),
    # 17. special-token strings are text
    Case(
        "special tokens in the text",
        around(line({"text": "<|endoftext|>[SEP]<reponame>"})),
        ["good 0", "<|endoftext|>[SEP]<reponame>", "good 1"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(case: Case, tmp_path: Path) -> None:
    source, file = kit.one_file(tmp_path, case.file, case.data)
    records, rejects = kit.read(source, file)
    assert [record.text for record in records] == case.texts
    assert tuple(r.reason for r in rejects if not r.whole_file) == case.records
    assert [r.reason for r in rejects if r.whole_file] == ([case.ends] if case.ends else [])
    positions = sorted([r.position for r in records] + [r.position for r in rejects if not r.whole_file])
    assert positions == list(range(len(case.texts) + len(case.records))), "every record is seen once"
    for record in records:
        record.text.encode("utf-8")
        record.id.encode("utf-8")

    if not rejects:
        kit.read(source, file, on_bad="stop")
        return
    with pytest.raises(SourceError) as stopped:
        kit.read(source, file, on_bad="stop")
    told = str(stopped.value).replace("\n    ", "\n")  # lines of the file stand further in
    assert f"{rejects[0].reason}: {rejects[0].detail}" in told and case.file in told


def test_rejects_carry_the_raw_bytes_and_the_place(tmp_path: Path) -> None:
    _, [reject] = kit.read_bytes(tmp_path, "a.jsonl", around(b'{"text": "x\n'))
    assert (reject.position, reject.raw, reject.whole_file) == (1, b'{"text": "x', False)
    _, [reject] = kit.read_bytes(tmp_path, "b.jsonl", b'{"a": "' + b"x" * 500 + b'"}\n', raw_bytes=10)
    assert reject.raw == b'{"a": "xxx'


def test_what_was_repaired_is_said(tmp_path: Path) -> None:
    data = b'{"text": "a\\ud83dz"}\n{"text": "b\xff"}\n{"text": "fine"}\n'
    records, _ = kit.read_bytes(tmp_path, "a.jsonl", data)
    assert [record.metadata.get("repaired") for record in records] == ["surrogates", "utf8", None]


# --- ids (facts 7.2) -------------------------------------------------------------------------------------------------


def test_ids_fall_back_and_the_original_is_kept(tmp_path: Path) -> None:
    ids = ["a", None, "", 7, "a", {"x": 1}, "b", "a", True, "\ud83d"]
    rows = b"".join(line({"text": f"t{n}", "id": value}) for n, value in enumerate(ids)) + line({"text": "t10"})
    records, _ = kit.read_bytes(tmp_path, "deep/a.jsonl", rows)
    replaced = {n: r.metadata.get("original_id") for n, r in enumerate(records) if r.id == f"own/a.jsonl#{n}"}
    assert [r.id for n, r in enumerate(records) if n not in replaced] == ["a", "b"]
    originals = {1: None, 2: None, 3: "7", 4: "a", 5: "{'x': 1}", 7: "a", 8: "True", 9: "\ufffd", 10: None}
    assert replaced == originals
    assert len({record.id for record in records}) == len(records)


def test_parquet_ids_follow_the_same_rules(tmp_path: Path) -> None:
    records, _ = kit.read_bytes(tmp_path, "a.parquet", kit.parquet({"text": ["x"] * 4, "id": ["a", None, "a", "b"]}))
    assert [record.id for record in records] == ["a", "own/a.parquet#1", "own/a.parquet#2", "b"]
    records, _ = kit.read_bytes(tmp_path, "b.parquet", kit.parquet({"text": ["x"] * 2, "id": [5, 6]}))
    assert [record.metadata["original_id"] for record in records] == ["5", "6"]


def test_repeats_are_found_across_the_change_to_the_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ettin_data.sources import ids as module

    monkeypatch.setattr(module, "_EXACT", 100)
    names = [f"id-{n % 700}" for n in range(1000)]
    data = kit.jsonl({"text": "x" * 2000, "id": name} for name in names)  # several blocks
    records, _ = kit.read_bytes(tmp_path, "a.jsonl", data)
    assert [r.id for r in records] == names[:700] + [f"own/a.jsonl#{n}" for n in range(700, 1000)]


def test_the_filter_errs_rarely() -> None:
    from ettin_data.sources.ids import Ids

    known = Ids("x")
    wrong = sum(len(known._repeats([f"{batch}-{n}" for n in range(10_000)])) for batch in range(40))
    assert wrong == 0


# --- size and memory -------------------------------------------------------------------------------------------------


def test_records_over_the_limit_are_rejected_and_the_next_is_read(tmp_path: Path) -> None:
    long = line({"text": "x" * 3_000_000})
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
        for data in (around(long), long + LINES, LINES + long[:-1]):
            packed = kit.compress(data, name)
            records, rejects = kit.read_bytes(tmp_path, name, packed, max_record_bytes=1_000_000, raw_bytes=20)
            assert kit.reasons(rejects) == ["record_too_long"] and len(records) in (2, 3)
            assert rejects[0].raw == long[:20] and f"{len(long) - 1:,} bytes" in rejects[0].detail
            assert len(kit.read_bytes(tmp_path, name, packed)[0]) == len(records) + 1
    table = kit.parquet({"text": ["x" * 2000, "y"]})
    records, rejects = kit.read_bytes(tmp_path, "a.parquet", table, max_record_bytes=1000)
    assert (kit.reasons(rejects), [r.text for r in records]) == (["record_too_long"], ["y"])


def test_a_bomb_stops_at_the_stated_limit(tmp_path: Path) -> None:
    bomb = zstandard.compress(line({"text": "a" * 1000}) * 1000) * 1000  # 1 GB
    assert len(bomb) < 200_000
    records, rejects = kit.read_bytes(tmp_path, "a.jsonl.zst", bomb)
    assert kit.reasons(rejects) == ["expansion_limit"] and rejects[-1].whole_file
    assert len(records) == rejects[-1].position and 60_000 < len(records) < 75_000


def _peak_of_reading(path: str, queue: multiprocessing.Queue) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = sources.own_source("own", path)
    found = [
        (item.reason, len(item.raw)) if isinstance(item, Reject) else "record"
        for item in sources.read_file(source, sources.list_files(source)[0])
    ]
    queue.put((found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def _in_a_process(path: Path) -> tuple[list, float]:
    """(what was read, growth of the peak memory in MiB), in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_peak_of_reading, args=(str(path), queue))
    worker.start()
    answer = queue.get(timeout=240)
    worker.join()
    return answer


@pytest.mark.slow
def test_a_line_of_2_gb_is_rejected_in_bounded_memory(tmp_path: Path) -> None:
    with open(tmp_path / "a.jsonl", "wb") as out:
        out.write(b'{"text": "first"}\n{"text": "')
        for _ in range(2048):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n{"text": "last"}\n')
    found, grown = _in_a_process(tmp_path / "a.jsonl")
    assert found == ["record", ("record_too_long", 65536), "record"]
    assert grown < 400, f"{grown:.0f} MiB"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for rows in (2_000, 30_000):
        data = kit.jsonl({"text": f"{n} " * 400, "id": f"id {n}"} for n in range(rows))
        kit.write(tmp_path / f"{rows}.jsonl.gz", kit.compress(data, ".gz"))
        found, grown = _in_a_process(tmp_path / f"{rows}.jsonl.gz")
        assert len(found) == rows
        peaks.append(grown)
    assert peaks[1] - peaks[0] < 40, peaks


# --- files that are not what was listed ------------------------------------------------------------------------------


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    """What was listed is read, what came later is not, and the change is said."""
    source, file = kit.one_file(tmp_path, "a.jsonl", LINES * 50_000)
    stream = sources.read_file(source, file)
    first = next(stream)
    with open(tmp_path / "a.jsonl", "ab") as out:
        out.write(line({"text": "too late"}))
    rest = list(stream)
    records = [item.text for item in (first, *rest) if isinstance(item, Record)]
    [reject] = [item for item in rest if isinstance(item, Reject)]
    assert records == ALL * 50_000
    assert (reject.reason, reject.whole_file) == ("size_mismatch", True) and "grown" in reject.detail


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_shorter_than_listed(name: str, tmp_path: Path) -> None:
    """This is what catches a zstd file that was cut between two frames, which no decoder can see."""
    data = kit.parquet({"text": ALL}) if name == "a.parquet" else kit.compress(LINES, name)
    source, file = kit.one_file(tmp_path, name, data)
    _, rejects = kit.read(source, replace(file, size=file.size + 10))
    assert kit.reasons(rejects)[-1:] == ["size_mismatch"] and rejects[-1].whole_file


def test_links_pipes_and_what_is_gone(tmp_path: Path) -> None:
    kit.write(tmp_path / "d/a.jsonl", LINES)
    os.symlink("..", tmp_path / "d/up")  # a folder that holds itself
    os.symlink("loop.jsonl", tmp_path / "d/loop.jsonl")  # a link to itself
    os.symlink("nowhere", tmp_path / "d/dangling.jsonl")
    os.symlink("a.jsonl", tmp_path / "d/alias.jsonl")
    os.mkfifo(tmp_path / "d/pipe.jsonl")
    source = sources.own_source("own", str(tmp_path))
    files = {file.path: file for file in sources.list_files(source)}
    assert sorted(files) == [f"d/{n}.jsonl" for n in ("a", "alias", "dangling", "loop", "pipe")]
    said = {
        path: [(i.reason if isinstance(i, Reject) else "ok") for i in sources.read_file(source, file)]
        for path, file in files.items()
    }
    assert said["d/a.jsonl"] == said["d/alias.jsonl"] == ["ok"] * 3
    assert said["d/loop.jsonl"] == ["unreadable"]
    assert said["d/dangling.jsonl"] == ["file_missing"]
    assert said["d/pipe.jsonl"] == ["not_a_file"]
    _, [gone] = kit.read(source, SourceFile("d/gone.jsonl", 5))
    assert (gone.reason, gone.whole_file) == ("file_missing", True)


def _read_as_nobody(source: Source, file: SourceFile, queue: multiprocessing.Queue) -> None:
    if os.getuid() == 0:
        os.setuid(65534)
    queue.put(list(sources.read_file(source, file)))


def test_permission_denied(tmp_path: Path) -> None:
    source, file = kit.one_file(tmp_path, "a.jsonl", LINES)
    os.chmod(tmp_path / "a.jsonl", 0)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            os.chmod(folder, folder.stat().st_mode | 0o711)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_read_as_nobody, args=(source, file, queue))
    worker.start()
    [reject] = queue.get(timeout=60)
    worker.join()
    assert (reject.reason, reject.whole_file) == ("permission_denied", True)


def test_the_reader_changes_nothing_on_disk(tmp_path: Path) -> None:
    root = tmp_path / "m"
    kit.build_mirror(root)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(root.rglob("*")) if path.is_file()}
    for source in sources.REGISTRY.values():
        kit.read_source(sources.with_root(source, str(root)))
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(root.rglob("*")) if path.is_file()}
    assert before == after
