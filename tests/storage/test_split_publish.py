"""What a split's marker says of its files is what was written, whatever a disk has made of them since."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import small_run

from ettin_data.base import files, sealed_json
from ettin_data.storage import split as markers
from ettin_data.storage.phase import MARKER


def test_a_bit_that_flips_before_the_marker_is_written_is_found(tmp_path: Path, monkeypatch) -> None:
    """Nothing is read back: the hashes are those of the bytes that were given to the disk."""
    publish = markers.publish

    def flipped(temporary: Path, *words) -> markers.Marker:
        for name in ("samples.parquet", "index.json", "shard.00000.mds"):
            data = bytearray((temporary / name).read_bytes())
            data[len(data) // 2] ^= 1
            (temporary / name).write_bytes(data)
        return publish(temporary, *words)

    monkeypatch.setattr(markers, "publish", flipped)
    small_run.write_split(tmp_path, "a/b-x", small_run.documents("a", 4, 0), 64)
    outputs = markers.read_marker(tmp_path / "a/b-x").outputs
    wrong = {name for name, written in outputs.items() if files.digest(tmp_path / "a/b-x" / name) != written}
    assert wrong == {"samples.parquet", "index.json", "shard.00000.mds"}


def test_an_undisturbed_split_has_the_hashes_of_its_files(tmp_path: Path) -> None:
    small_run.write_split(tmp_path, "a/b-x", small_run.documents("a", 4, 0), 64)
    outputs = markers.read_marker(tmp_path / "a/b-x").outputs
    assert {name: files.digest(tmp_path / "a/b-x" / name) for name in outputs} == outputs and len(outputs) == 4


def test_a_marker_brings_its_digest_along_and_no_other_has_it(tmp_path: Path) -> None:
    made = []
    publish = markers.publish
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(markers, "publish", lambda *words: made.append(publish(*words)) or made[-1])
        small_run.write_split(tmp_path, "a/b-x", small_run.documents("a", 4, 0), 64)
    carried = sealed_json.digest((tmp_path / "a/b-x" / MARKER).read_bytes())
    travelled = pickle.loads(pickle.dumps(made[0]))
    assert vars(travelled)["digest"] == carried == markers.read_marker(tmp_path / "a/b-x").digest
    assert replace(travelled, tokens=1).digest != carried and "digest" not in travelled.to_json()
