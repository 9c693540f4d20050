"""The miniature mirror of all upstreams and a small tokenizer, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import source_kit as kit
from tokenizers import Tokenizer


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, kit.Expected]]:
    """(sources root, what each source reads to)."""
    root = tmp_path_factory.mktemp("mirror")
    return root, kit.build_mirror(root)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tokenizer]:
    """(path, tokenizer) of a small stand-in for Llama 3's."""
    path = tmp_path_factory.mktemp("llama") / "tokenizer.json"
    kit.train_llama_like(path)
    return str(path), Tokenizer.from_file(str(path))
