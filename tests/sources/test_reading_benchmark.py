"""The benchmark of reading runs, and its bare loops read what the reader reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import reading


@pytest.mark.parametrize("case", ["jsonl.gz", "parquet/short"])
def test_a_round_of_the_benchmark(case: str, tmp_path: Path) -> None:
    texts = [f"document {n}\n" * (n % 90 + 1) for n in range(300)]
    rows = reading.measure(case, tmp_path, texts, rounds=1)
    assert rows[0]["read by"] == "read_file" and len(rows) >= 2
    assert all(row["MB/s of text"] > 0 for row in rows)
