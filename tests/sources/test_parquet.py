"""Parquet files that pyarrow opens and that are no plain tables of strings."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
import source_kit as kit

from ettin_data import sources
from ettin_data.sources import TransportOptions

TEXTS = [f"Row {n} about the tides and the moon." for n in range(5)]


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("id", [0, 1, 2**62 // 1000, 3, 4], pa.timestamp("ms")),
        ("id", [0, 1, 2**31 - 1, 3, 4], pa.date32()),
        ("id", [0, 1, 2**62, 3, 4], pa.duration("s")),
        ("id", [0, None, 2, 3, 4], pa.timestamp("us", "Mars/Olympus")),
        ("id", [0, 1, 2, 3, 2**60], pa.timestamp("ns", "Mars/Olympus")),
        ("id", [1, 2, 3, 4, 5], pa.time64("ns")),
        ("url", [0, 1, 10**13, 3, 4], pa.timestamp("s")),
    ],
)
def test_what_python_cannot_hold_costs_the_id_and_not_the_file(
    column: str, values: list[Any], kind: pa.DataType, tmp_path: Path
) -> None:
    data = kit.parquet({"text": TEXTS, column: pa.array(values, kind)})
    records, rejects = kit.read_bytes(tmp_path, "a.parquet", data)
    assert [record.text for record in records] == TEXTS and not rejects
    assert [record.id for record in records] == [f"own/a.parquet#{n}" for n in range(5)]
    if column == "id":
        kept = [record.metadata.get("original_id") for record in records]
        assert kept == [None if value is None else text for value, text in zip(values, kept, strict=True)] and any(kept)


class _Keys(encryption.KmsClient):
    """A key server that wraps a key by writing it down."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        return bytes.fromhex(wrapped_key)


def encrypted(path: Path, *, plain_footer: bool) -> None:
    """A table whose id is encrypted and, with the footer, all that says where a column is."""
    factory = encryption.CryptoFactory(lambda _: _Keys())
    settings = encryption.EncryptionConfiguration(
        footer_key="footer",
        column_keys={"column": ["id"]},
        plaintext_footer=plain_footer,
        cache_lifetime=datetime.timedelta(minutes=5),
    )
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    table = pa.table({"id": list("abcde"), "text": TEXTS})
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("plain_footer", [True, False])
def test_an_encrypted_file_is_named(plain_footer: bool, tmp_path: Path) -> None:
    encrypted(tmp_path / "a.parquet", plain_footer=plain_footer)
    source = sources.own_source("own", str(tmp_path / "a.parquet"))
    [file] = sources.list_files(source)
    assert sources.cut_files(source, [file], 100, TransportOptions()) == [file]
    records, [reject] = kit.read(source, file)
    assert not records and (reject.reason, reject.whole_file) == ("encrypted", True)


DAMAGED_FOOTERS = """
import sys
from pathlib import Path
import numpy as np
import source_kit as kit
from ettin_data import sources
from ettin_data.sources import TransportOptions

data, seed = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
first = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
rng = np.random.default_rng(seed)
for at in rng.choice(np.arange(first, len(data)), 250, replace=False):
    changed = bytearray(data)
    changed[at] ^= int(rng.integers(1, 256))
    source, file = kit.one_file(Path(sys.argv[3]), "a.parquet", bytes(changed))
    sources.cut_files(source, [file], 1000, TransportOptions())
    records, rejects = kit.read(source, file)
    assert rejects or len(records) == 60
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_damaged_footer_costs_its_file_and_not_the_process(seed: int, tmp_path: Path) -> None:
    """pyarrow ends the process when it is asked for the metadata of some columns: in a process of its own, then."""
    texts = [f"{text} {n}" for n in range(12) for text in TEXTS]
    good = kit.write(
        tmp_path / "good", kit.parquet({"text": texts, "id": [str(n) for n in range(60)]}, row_group_size=7)
    )
    words = [sys.executable, "-c", DAMAGED_FOOTERS, str(good), str(seed), str(tmp_path / "damaged")]
    folders = os.pathsep.join([str(Path(kit.__file__).parent), *sys.path])
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": folders}, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_wrong_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    data = bytearray(kit.parquet({"text": TEXTS}, **options))
    assert len(kit.read_bytes(tmp_path, "a.parquet", bytes(data))[0]) == 5
    data[data.index(b"Row 3") + 1] ^= 0x20  # still a text, but another
    records, [reject] = kit.read_bytes(tmp_path, "a.parquet", bytes(data))
    assert not records and (reject.reason, reject.whole_file) == ("damaged_parquet", True) and "CRC" in reject.detail
