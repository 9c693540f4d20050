"""Built phases for the trainer's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from built_run import write_phase

from ettin_data.trainer.phases import PHASES


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def phase(tmp_path: Path) -> Path:
    return write_phase(tmp_path / "pretrain")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three phases, the later ones with longer samples."""
    for i, name in enumerate(PHASES):
        write_phase(tmp_path / "run" / name, longest=60 if i == 0 else 200, seed=i)
    return tmp_path / "run"
