"""Forms that are refused by name, with what mends them; and JSON Lines, which are never taken for one of them."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import source_kit as kit
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.sources.formats.content import not_data

ROWS = [{"id": str(n), "text": f"Text {n} about the sea.", "meta": {"n": [n]}} for n in range(60)]
LINES = kit.jsonl(ROWS)


def tar(format: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"part-{number}.jsonl")
            member.size = len(LINES)
            archive.addfile(member, io.BytesIO(LINES))
    return buffer.getvalue()


def old_tar() -> bytes:
    """A tar from before POSIX: no magic number, only the sum."""
    data = bytearray(tar(tarfile.USTAR_FORMAT))
    data[257:265] = bytes(8)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (json.dumps(ROWS).encode(), "json_array", "jq -c '.[]'"),
        (json.dumps(ROWS, indent=2).encode(), "json_array", "jq -c '.[]'"),
        (b"\xef\xbb\xbf[\r\n" + b",\r\n".join(LINES.splitlines()) + b"]", "json_array", "jq -c '.[]'"),
        (json.dumps({"data": ROWS}).encode(), "json_document", "jq -c '.data[]'"),
        (json.dumps({"version": 1, "rows": ROWS}).encode(), "json_document", "jq -c '.rows[]'"),
        (json.dumps({"data": ROWS}, indent=1).encode(), "pretty_json", "jq -c '.data[]'"),
        (json.dumps({"version": "1", "rows": ROWS}, indent=1).encode(), "pretty_json", "jq -c '.rows[]'"),
        (b"[\n]\n", "json_array", "empty"),
        ("\n".join(json.dumps(row, indent=2) for row in ROWS).encode(), "pretty_json", "jq -c ."),
        *[(LINES.decode().encode(name), "unsupported_encoding", "iconv -f UTF-16") for name in ("utf-16", "utf-16-be")],
        (LINES.decode().encode("utf-16-le"), "unsupported_encoding", "iconv -f UTF-16LE"),
        (LINES.decode().encode("utf-32"), "unsupported_encoding", "iconv -f UTF-32"),
        *[(tar(form), "unsupported_format", "tar -xf") for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)],
        (old_tar(), "unsupported_format", "tar -xf"),
        (zlib.compress(LINES), "unsupported_format", "zlib"),
        (raw_deflate(LINES), "unsupported_format", "raw deflate"),
        (b"PARE" + bytes(100), "encrypted", "without encryption"),
    ],
)
def test_a_form_that_is_refused_says_what_it_is(data: bytes, reason: str, words: str, tmp_path: Path) -> None:
    for stored, name in ((data, "a.json"), (gzip.compress(data), "a.json.gz")):
        records, [reject] = kit.read_bytes(tmp_path, name, stored)
        assert not records and (reject.reason, reject.whole_file, reject.position) == (reason, True, 0)
        assert words in reject.detail


def packed(data: bytes, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(ROWS, indent=2).encode(), json.dumps({"data": ROWS}).encode(),
        json.dumps({"rows": ROWS}, indent=1).encode(),
        "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(), LINES.decode().encode("utf-16"),
        LINES.decode().encode("utf-16-be"), LINES.decode().encode("utf-32"), zlib.compress(LINES), raw_deflate(LINES),
        tar(tarfile.GNU_FORMAT), packed(LINES, "part-0.jsonl"),
    ],
)  # fmt: skip
def test_the_command_that_is_named_mends_it(data: bytes, tmp_path: Path) -> None:
    path = kit.write(tmp_path / "given" / "a.jsonl", data)
    [reject] = kit.read(*kit.one_file(tmp_path / "given", "a.jsonl", data))[1]
    command = reject.detail.partition("; ")[2].partition(", or ")[0]
    if not shutil.which(command.split()[0]):
        pytest.skip(f"needs {command.split()[0]}")
    (tmp_path / "mended").mkdir()
    done = subprocess.run(
        command.replace("FILE", str(path)), shell=True, check=True, capture_output=True, cwd=tmp_path / "mended"
    )
    made = sorted((tmp_path / "mended").iterdir())
    data = made[0].read_bytes() if made else done.stdout
    records, rejects = kit.read_bytes(tmp_path, "b.jsonl", data)
    assert [record.text for record in records] == [row["text"] for row in ROWS] and not rejects


def test_shards_without_an_index_say_how_they_are_read(tmp_path: Path) -> None:
    shard = kit.mds_shard({"text": "str"}, [{"text": "a"}])
    for name, data in (("shard.00000.mds", shard), ("shard.00000.mds.zstd", zstandard.compress(shard))):
        folder = tmp_path / name.rpartition(".")[2]
        kit.write(folder / "deep" / name, data)
        with pytest.raises(SourceError, match=r"in no index") as error:
            sources.list_files(sources.own_source("own", str(folder)))
        glob = error.value.remedy.partition(": ")[2]
        assert glob.endswith(name[len("shard.00000") :])
        assert len(kit.read_source(sources.own_source("own", glob))[0]) == 1


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(["text", "messages", "data", "é"]), json_values, min_size=1), min_size=1)
)
def test_json_lines_are_never_refused(rows: list[dict[str, Any]]) -> None:
    for ascii_only in (True, False):
        data = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode("utf-8", "replace")
        assert not_data(data[:512]) is None


def test_records_that_hold_lists_of_objects_stay_records(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "text": "x" * 600}], "text": f"chat {n}"} for n in range(3)]
    records, rejects = kit.read_bytes(tmp_path, "a.jsonl", kit.jsonl(rows))
    assert [record.text for record in records] == ["chat 0", "chat 1", "chat 2"] and not rejects
    records, rejects = kit.read_bytes(tmp_path, "b.jsonl", b"{\n" + kit.jsonl(rows))  # one broken line in front
    assert len(records) == 3 and kit.reasons(rejects) == ["bad_json"]
