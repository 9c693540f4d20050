"""The root cannot depend on the network's weather: whole builds in which one request goes wrong, for each service."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import weather

KINDS = ("http", "hub", "s3", "gcs")
FAULTS = ["401", "403", "404", "408", "410", "429", "500", "502", "503", "504", "page", "cut", "reset"]


def outcomes(
    kind: str, folder: Path, faults: list[str], places: int
) -> list[tuple[int, int, str, bool, str | None, str]]:
    (folder / "data").mkdir()
    for part in range(3):
        rows = ({"id": f"{part}-{n}", "text": f"Text {n} of {part} about the sea and the shore."} for n in range(30))
        text = "\n".join(map(json.dumps, rows))
        (folder / f"data/part-{part}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    arguments = [kind, str(folder), json.dumps({"faults": faults, "places": places})]
    done = subprocess.run([sys.executable, weather.__file__, *arguments], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_request_changes_no_root(kind: str, tmp_path: Path) -> None:
    check(outcomes(kind, tmp_path, ["403*", "404"], 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_status_at_each_request_changes_no_root(kind: str, tmp_path: Path) -> None:
    check(outcomes(kind, tmp_path, [*FAULTS, "403*"], 0))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["hub", "gcs", "http"])
def test_a_service_that_stays_down_is_named(kind: str, tmp_path: Path) -> None:
    """From the first request on, then from one for a file: our words, and the same command heals. (The hub's and GCS's
    clients wait themselves before we do, so this takes minutes.)"""
    found = outcomes(kind, tmp_path, ["503*"], 2)
    assert all(each[3] for each in found)
    said = [str(each[4]) for each in found if each[4]]
    assert said
    for text in said:
        assert "gave up after 8 failed attempts" in text and "the service itself says 503: wait" in text, text
        assert "Traceback" not in text


def check(found: list[tuple[int, int, str, bool, str | None, str]]) -> None:
    """Equal roots; what lasts ends a build, and then the same command heals it. One request ends at most a listing."""
    wrong = [each for each in found if not each[3]]
    assert not wrong, wrong[:3]
    ended = [str(said) for _, _, fault, _, said, _ in found if fault.endswith("*") and said]
    assert any("gave up after" in said and "at a file that was listed" in said for said in ended), ended
    last = max(each[0] for each in found)
    for at, _, fault, _, said, _ in found:
        assert "damaged" not in (said or "") and "rejected" not in (said or "")
        if not fault.endswith("*"):
            assert said is None or at < last / 2, (at, fault, said)
