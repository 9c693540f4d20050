"""One tiny run, built once and shared: tests that damage it put it back (`tamper.restored`) or work on a copy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import tiny_run


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory) -> Path:
    """Sources and tokenizer of the tiny run."""
    root = tmp_path_factory.mktemp("tiny")
    tiny_run.write_sources(root)
    tiny_run.write_tokenizer(root / "tokenizer.json")
    return root


@pytest.fixture(scope="session")
def tiny_recipe(tiny_root):
    return tiny_run.tiny_recipe(tiny_root)


@pytest.fixture(scope="session")
def tiny_phase(tmp_path_factory, tiny_recipe) -> Path:
    """The phase's folder of a finished, undisturbed run."""
    return tiny_run.build(tiny_recipe, tmp_path_factory.mktemp("run"))


@pytest.fixture
def copied(tmp_path, tiny_phase) -> Path:
    """A copy of the run with its links and times, to do anything to."""
    subprocess.run(["cp", "-a", str(tiny_phase), str(tmp_path)], check=True)
    return tmp_path / tiny_phase.name


@pytest.fixture(scope="session")
def smaller_phase(tmp_path_factory) -> Path:
    """A run as small as one can be and have everything: passes, cuts, held-out documents, rejects, attributes."""
    root = tmp_path_factory.mktemp("smaller")
    tiny_run.write_sources(root, 2, 20)
    tiny_run.write_tokenizer(root / "tokenizer.json")
    changes = ["sources.alpha.tokens=2k", "sources.beta.tokens=6k", "order.batch=4", "order.interval_steps=4"]
    step = "attributes=[{step: 'nth_step:every'}]"
    return tiny_run.build(tiny_run.tiny_recipe(root, 2).changed(*changes, "validation=0.05", step), root / "run")


@pytest.fixture
def smaller(tmp_path, smaller_phase) -> Path:
    """A copy of that run with its links and times, to do anything to."""
    subprocess.run(["cp", "-a", str(smaller_phase), str(tmp_path)], check=True)
    return tmp_path / smaller_phase.name
