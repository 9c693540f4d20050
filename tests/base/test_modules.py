"""Code found by where it lies, or by its name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ettin_data.base.errors import RecipeError
from ettin_data.base.modules import found_in, named, version_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "toy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "zebra.py").write_text("VERSION = 7\ndef stripe(): ...\n")
    (folder / "ant.py").write_text("def leg(): ...\n")
    (folder / "_private.py").write_text("raise RuntimeError('not to be imported')\n")
    (folder / "broken.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield "toy_package"
    for name in [name for name in sys.modules if name.startswith("toy_package")]:
        del sys.modules[name]


def test_the_modules_of_a_folder_come_in_the_order_of_their_names(package: str) -> None:
    names = [module.__name__ for module in found_in(package)]
    assert names == ["toy_package.ant", "toy_package.broken", "toy_package.zebra"]


def test_what_is_named_is_imported(package: str) -> None:
    assert named("toy_package.ant:leg", where="here").__name__ == "leg"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("toy_package.ant", "write package.module:name"),
        ("toy_package.bee:leg", "No module named 'toy_package.bee'"),
        ("toy_package.ant:lug", "did you mean leg"),
        ("toy_package._private:x", "not to be imported"),
    ],
)
def test_what_cannot_be_found_is_a_recipe_error_that_says_so(package: str, reference: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        named(reference, where="recipe: filters")


def test_a_version_is_what_the_module_says_or_its_source(package: str) -> None:
    assert version_of(named("toy_package.zebra:stripe", where="")) == "7"
    assert len(version_of(named("toy_package.ant:leg", where=""))) == 16
