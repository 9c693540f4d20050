"""Plain HTTPS sources, through a server that fails in every way that servers do."""

from __future__ import annotations

import email.utils
import gzip
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import source_kit as kit
import zstandard
from fault_server import Fault, Served, serve

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.sources import ReadOptions, Record, Reject, Source, SourceFile, TransportOptions

FAST = TransportOptions(attempts=4, backoff_s=0.01, backoff_max_s=0.05, timeout_s=5, block_bytes=1 << 16)
ROWS = [{"text": f"document {n} " + os.urandom(200).hex(), "id": str(n)} for n in range(1500)]
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    kit.write(tmp_path / "www/data/a-0000.json.gz", gzip.compress(kit.jsonl(ROWS)))
    kit.write(tmp_path / "www/data/a-0001.json.zst", zstandard.compress(kit.jsonl(ROWS)))
    with serve(tmp_path / "www") as running:
        yield running


def source_of(served: Served, *names: str) -> Source:
    names = names or ("a-0000.json.gz",)
    return Source("web", "own", "web", served.url + "/data/", names, "jsonl")


def read(source: Source, transport: TransportOptions = FAST, **listing: Any) -> tuple[list[str], list[Reject]]:
    texts, rejects = [], []
    for file in sources.list_files(source, transport=transport):
        for item in sources.read_file(source, replace(file, **listing), options=ReadOptions(transport=transport)):
            if isinstance(item, Record):
                texts.append(item.text)
            else:
                rejects.append(item)
    return texts, rejects


PATH = "/data/a-0000.json.gz"


@pytest.mark.parametrize("name", ["a-0000.json.gz", "a-0001.json.zst"])
def test_the_same_documents_as_from_disk(name: str, served: Served) -> None:
    source = source_of(served, name)
    [file] = sources.list_files(source, transport=FAST)
    assert file.size == (served.root / "data" / name).stat().st_size and file.etag
    assert read(source) == (TEXTS, [])
    assert len(served.gets("/data/" + name)) == -(-file.size // FAST.block_bytes), "one request a block"


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=503), Fault(status=500), Fault(status=502)],
        [Fault(status=429, headers={"Retry-After": "0"})],
        [Fault(cut=1000), Fault(), Fault(cut=0), Fault(cut=5)],
        [Fault(claim=500)],  # promises more than it sends
        [Fault(claim=-500)],  # sends less, and says so
        [Fault(wait_s=0.3)],
        [Fault(status=403, headers={"Retry-After": "0"})],
    ],
    ids=["5xx", "429", "reset", "too long", "too short", "slow start", "403 for now"],
)
@pytest.mark.parametrize("ranges", [True, False])
def test_faults_that_pass(faults: list[Fault], ranges: bool, served: Served) -> None:
    served.ranges = ranges
    served.faults[PATH] = faults
    assert read(source_of(served)) == (TEXTS, [])
    assert served.faults[PATH] == []


def test_a_broken_transfer_goes_on_where_it_broke(served: Served) -> None:
    options = replace(FAST, block_bytes=1 << 24)
    served.faults[PATH] = [Fault(cut=100_000), Fault(cut=50_000)]
    assert read(source_of(served), options) == (TEXTS, [])
    starts = [int(asked.removeprefix("bytes=").split("-")[0]) for asked in served.gets(PATH)]
    assert len(starts) == 3 and starts[0] == 0 and 0 < starts[1] <= 100_000 and starts[1] <= starts[2] <= 150_000


def test_retry_after_is_honoured(served: Served) -> None:
    for header in ({"Retry-After": "1"}, {"Retry-After": email.utils.formatdate(time.time() + 4, usegmt=True)}):
        served.faults[PATH] = [Fault(status=429, headers=header)]
        started = time.perf_counter()
        assert read(source_of(served)) == (TEXTS, [])
        assert 0.9 < time.perf_counter() - started < 6


def test_a_wait_that_is_too_long_is_an_error(served: Served) -> None:
    served.faults[PATH] = [Fault(status=429, headers={"Retry-After": "86400"})]
    with pytest.raises(SourceError, match="asks to wait 86,400 s"):
        read(source_of(served))


def test_a_network_that_stays_down_stops_the_run_and_loses_nothing(served: Served) -> None:
    """Not a reject: a file that cannot be reached today is not bad data."""
    source = source_of(served)
    [file] = sources.list_files(source, transport=FAST)
    served.always = Fault(status=503)
    with pytest.raises(SourceError, match="gave up after 4 failed attempts"):
        list(sources.read_file(source, file, options=ReadOptions(transport=FAST)))
    nobody = Source("web", "own", "web", "http://127.0.0.1:9/", ("a.gz",), "jsonl")
    with pytest.raises(SourceError, match="gave up"):
        sources.list_files(nobody, transport=FAST)


WEATHER = {
    "401": Fault(status=401), "403": Fault(status=403), "404": Fault(status=404), "410": Fault(status=410),
    "a redirect that answers 403": Fault(status=302, headers={"Location": "/denied"}),
    "a redirect that answers 404": Fault(status=307, headers={"Location": "/nowhere"}),
    "a page with status 200": Fault(body=b"<!DOCTYPE html><html>maintenance</html>"),
    "a stale copy": Fault(body=b"old", headers={"ETag": '"old"'}),
}  # fmt: skip


@pytest.mark.parametrize("name", WEATHER)
@pytest.mark.parametrize("at", [0, 2])
def test_weather_is_not_data(name: str, at: int, served: Served) -> None:
    """What was listed is asked for again, at each of its requests; refused for good it is an error, never a reject."""
    served.always_at = {"/denied": Fault(status=403)}
    served.faults[PATH] = [*[Fault()] * at, *[WEATHER[name]] * 3]
    assert read(source_of(served)) == (TEXTS, [])
    source = source_of(served)
    [file] = sources.list_files(source, transport=FAST)
    served.faults[PATH] = [*[Fault()] * at, *[WEATHER[name]] * 100]
    with pytest.raises(SourceError, match="gave up after 4 failed attempts"):
        list(sources.read_file(source, file, options=ReadOptions(transport=FAST)))


def test_what_is_not_there_or_not_allowed_is_said(served: Served) -> None:
    for file, said in ((SourceFile("gone.json.gz", 10), "404"), (SourceFile("gone.json.gz", -1), "FileNotFoundError")):
        with pytest.raises(SourceError, match=rf"(?s)at a file that was listed.*gone\.json\.gz.*({said}|FileNotFound)"):
            list(sources.read_file(source_of(served), file, options=ReadOptions(transport=FAST)))


def test_an_error_page_of_unknown_length(served: Served) -> None:
    """Nothing tells it from a file of that content: it is damage."""
    served.faults[PATH] = [Fault(body=b"<!DOCTYPE html><html>maintenance</html>")]
    texts, [reject] = read(source_of(served), size=-1)
    assert texts == [] and reject.reason == "html_instead_of_data"


def test_a_file_that_changed_since_it_was_listed(served: Served) -> None:
    for listing in ({"size": 1000}, {"etag": "another"}):
        with pytest.raises(SourceError, match=r"(?s)gave up after 4 .*listed.*--relist"):
            read(source_of(served), **listing)
    served.ranges = False
    with pytest.raises(SourceError, match="bytes, 10,000,000 were listed"):
        read(source_of(served), size=10_000_000)


def test_a_truncated_zstd_file_without_an_error_from_the_decoder(served: Served) -> None:
    """Cut between two frames, where the decoder is content: the listing's length tells."""
    frames = [zstandard.compress(kit.jsonl(ROWS[:700])), zstandard.compress(kit.jsonl(ROWS[700:]))]
    kit.write(served.root / "data/b.zst", b"".join(frames))
    source = source_of(served, "b.zst")
    [file] = sources.list_files(source, transport=FAST)
    kit.write(served.root / "data/b.zst", frames[0])
    with pytest.raises(SourceError, match="were listed"):
        list(sources.read_file(source, replace(file, etag=None), options=ReadOptions(transport=FAST)))


def test_an_unknown_length_is_read_to_its_end(served: Served) -> None:
    for ranges in (True, False):
        served.ranges = ranges
        assert read(source_of(served), size=-1) == (TEXTS, [])
    exact = replace(FAST, block_bytes=(served.root / "data/a-0000.json.gz").stat().st_size)
    served.ranges = True
    assert read(source_of(served), exact, size=-1) == (TEXTS, [])


def test_listing_asks_for_each_name(served: Served) -> None:
    source = source_of(served, "a-{0000..0003}.json.gz")
    assert [file.path for file in sources.list_files(source, transport=FAST)] == ["a-0000.json.gz"]
    check = sources.check_source(replace(source, files=4), targets={"pretrain": 1000}, transport=FAST)
    assert check.missing == tuple(f"a-000{n}.json.gz" for n in (1, 2, 3))
    assert (check.lost_share, check.lost_tokens, dict(check.short)) == (0.75, 750, {"pretrain": 750})
    with pytest.raises(SourceError, match="cannot be listed over HTTP"):
        sources.list_files(source_of(served, "*.gz"), transport=FAST)
    with pytest.raises(SourceError, match="no file matches"):
        sources.list_files(source_of(served, "b-{0..3}.gz"), transport=FAST)


def test_a_probe_that_fails_for_now_is_not_a_missing_file(served: Served) -> None:
    """fsspec turns every failed probe into "file not found"; a 503 must not cost a file."""
    served.faults[PATH] = [Fault(status=503)] * 2
    real = served.root / "data/a-0000.json.gz"
    hidden = real.rename(real.with_suffix(".hidden"))  # HEAD fails too, so that fsspec asks with GET
    try:
        with pytest.raises(SourceError, match="no file matches"):
            sources.list_files(source_of(served), transport=FAST)
        assert served.faults[PATH] == [], "the 503s were retried before the 404 was believed"
    finally:
        hidden.rename(real)


def test_secrets_are_not_in_the_messages(served: Served) -> None:
    root = served.url.replace("http://", "http://me:hunter2@") + "/data/"
    source = replace(source_of(served, "gone.gz"), root=root)
    with pytest.raises(SourceError) as error:
        sources.list_files(source, transport=FAST)
    with pytest.raises(SourceError) as gone:
        list(sources.read_file(source, SourceFile("gone.gz", 5), options=ReadOptions(transport=FAST)))
    check = sources.check_source(source, targets={}, transport=FAST)
    for text in (str(error.value), str(gone.value), check.root, *check.problems()):
        assert "hunter2" not in text
    served.always = Fault(status=503)
    with pytest.raises(SourceError) as error:
        list(sources.read_file(source, SourceFile("gone.gz", 5), options=ReadOptions(transport=FAST)))
    assert "hunter2" not in str(error.value) and "127.0.0.1" in str(error.value)


# --- the cache -------------------------------------------------------------------------------------------------------


def test_the_cache_fetches_once_and_keeps_to_its_size(served: Served, tmp_path: Path) -> None:
    for n in range(2, 6):
        kit.write(served.root / f"data/c-{n}.jsonl", kit.jsonl(ROWS[:100]))
    size = (served.root / "data/c-2.jsonl").stat().st_size
    cached = replace(FAST, cache=str(tmp_path / "cache"), cache_bytes=2 * size + 10)
    source = source_of(served, "c-{2..5}.jsonl")
    for _ in range(2):
        assert read(source_of(served, "c-2.jsonl"), cached) == (TEXTS[:100], [])
    assert len(served.gets("/data/c-2.jsonl")) == 1
    assert read(source, cached) == (TEXTS[:100] * 4, [])
    kept = list((tmp_path / "cache").glob("*.data"))
    assert len(kept) == 2 and sum(path.stat().st_size for path in kept) <= cached.cache_bytes
    assert list((tmp_path / "cache").glob(".tmp-*")) == []
    kit.write(served.root / "data/c-5.jsonl", kit.jsonl(ROWS[100:200]))
    assert read(source_of(served, "c-5.jsonl"), cached)[0] == TEXTS[100:200], "a changed file is another entry"


def test_a_broken_fetch_leaves_no_entry(served: Served, tmp_path: Path) -> None:
    cached = replace(FAST, cache=str(tmp_path / "cache"))
    served.faults[PATH] = [Fault(status=503)] * 4
    with pytest.raises(SourceError):
        read(source_of(served), cached)
    assert list((tmp_path / "cache").glob("*.data")) == []
    assert read(source_of(served), cached) == (TEXTS, [])


# --- requests at a time ----------------------------------------------------------------------------------------------


def _read_in_a_process(url: str, per_host: int) -> None:
    options = replace(FAST, per_host=per_host, block_bytes=1 << 16)
    source = Source("web", "own", "web", url + "/data/", ("a-0000.json.gz",), "jsonl")
    assert (
        len(list(sources.read_file(source, SourceFile("a-0000.json.gz", -1), options=ReadOptions(transport=options))))
        == 1500
    )


def test_requests_at_a_time_are_limited_over_all_processes(served: Served) -> None:
    served.always = Fault(wait_s=0.02)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_read_in_a_process, args=(served.url, 2)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert 1 <= served.most_at_once <= 2


def _read_after_a_fork(source: Source, file: SourceFile, queue: multiprocessing.Queue) -> None:
    queue.put(len(list(sources.read_file(source, file, options=ReadOptions(transport=FAST)))))


def test_a_forked_worker_reads_after_its_parent_listed(served: Served) -> None:
    """The parent's connections and event loop are not the child's."""
    source = source_of(served)
    [file] = sources.list_files(source, transport=FAST)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_read_after_a_fork, args=(source, file, queue))
    worker.start()
    assert queue.get(timeout=30) == 1500
    worker.join()


# --- every source family, through HTTP -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["cc_news", "starcoder", "wikipedia"])
def test_dolma_through_http(key: str, mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    root, expected = mirror
    with serve(root) as running:
        source = sources.with_root(sources.get(key), running.url)
        assert source.root.startswith(running.url + "/olmo-data.org/dolma-v1_7/")
        texts, rejects = read(source)
        assert (texts, rejects) == (expected[key].texts, [])
        assert running.most_at_once <= FAST.per_host


def test_dolmino_through_http(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    root, expected = mirror
    with serve(root) as running:
        for key in ("math_dolmino", "dclm_dolmino"):
            source = replace(sources.with_root(sources.get(key), running.url), globs=tuple(sorted(expected[key].files)))
            assert read(source) == (expected[key].texts, [])


def test_parquet_and_mds_through_http(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    """Names must be spelled out for a web server: one file of each."""
    root, expected = mirror
    with serve(root) as running:
        dclm = sources.with_root(sources.get("dclm"), running.url)
        path = sorted(expected["dclm"].files)[0]
        texts, rejects = read(replace(dclm, globs=(path,)))
        assert (texts, rejects) == ([text for text, _ in expected["dclm"].files[path]], [])
        books = replace(
            sources.with_root(sources.get("textbooks"), running.url),
            globs=("textbooks-A-B-{0..1}/index.json",),
            tokenizer=str(root / "princeton-prolong/tokenizer.json"),
        )
        files = sources.list_files(books, transport=FAST)
        assert [file.path for file in files] == sorted(expected["textbooks"].files)
        assert read(books) == (expected["textbooks"].texts, [])
