"""The miniature mirror of all upstreams, built once."""

from __future__ import annotations

from pathlib import Path

import pytest
import source_kit as kit


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, kit.Expected]]:
    """(sources root, what each source reads to)."""
    root = tmp_path_factory.mktemp("mirror")
    return root, kit.build_mirror(root)
