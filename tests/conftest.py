"""Fixtures that several test modules share."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest
import shown_run
import typer.main
import typer.testing
from hypothesis import settings
from small_run import SmallRun, write_run

from ettin_data.base import compiled
from ettin_data.base.extras import MissingPackage
from ettin_data.storage.mds import import_streaming
from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile, resolve

# No deadlines: a timed test fails on a busy machine. CI repeats the same examples; elsewhere each run looks further.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Newer gcsfs asks each bucket over gRPC what kind it is; the local servers speak Google's JSON protocol.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

# typer makes all commands anew at each call, which takes a tenth of a second; here it makes them once.
typer.main.get_command = typer.testing._get_command = functools.cache(typer.main.get_command)

_SLOW_S = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The limit of a test is for those that hang; the longer proofs take minutes on a busy machine, and may."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_S))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Data is named by its argument: archives say when they were made, and processes have to agree on a test's name."""
    return argname if isinstance(val, bytes | str) and len(val) > 100 else None


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """By the loops in C, and by numpy alone."""
    if request.param == "compiled" and not compiled.there():
        pytest.skip("there was no C compiler when this was installed")
    with compiled.numpy_alone() if request.param == "numpy" else nullcontext():
        yield


@pytest.fixture(scope="session")
def streaming() -> ModuleType:
    """MosaicML's `streaming`, where its extra is installed."""
    try:
        return import_streaming()
    except MissingPackage as missing:
        pytest.skip(missing.what)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of design notes, true files and upstream samples beside the checkout; not everybody has it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared")
    return folder


@pytest.fixture(scope="session")
def tokenizer_file() -> TokenizerFile:
    """ModernBERT's tokenizer, found as any run finds it and kept in the user's cache."""
    return resolve()


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: TokenizerFile) -> Tokenizer:
    return Tokenizer(tokenizer_file)


@pytest.fixture(scope="session")
def built_shown_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built run of two phases with something of all that people look at; tests only read it."""
    return shown_run.build(tmp_path_factory.mktemp("shown"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run of two phases whose every document is known; tests only read it."""
    return write_run(tmp_path_factory.mktemp("run"))
