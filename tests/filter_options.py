"""The least that each shipped filter has to be told, so that tests can go over all of them."""

from __future__ import annotations

from typing import Any

from ettin_data.stages.filters.registry import shipped

NEEDED: dict[str, dict[str, Any]] = {
    "fasttext_score": {"model": "scores.ftz", "sha256": "0" * 64, "label": "good", "threshold": 0.5},
    "language": {"languages": ["en"]},
    "listed": {"domains": ["bad.example"]},
    "pattern": {"expression": "lorem"},
    "sample": {"share": 0.5},
}
MODELS = ("fasttext_score", "language")
"""Those that cannot run without a package and a model of others."""


def specs() -> list[dict[str, dict[str, Any]]]:
    """Every shipped filter that can run as it is, as a recipe names it, with the least options."""
    return [{name: NEEDED.get(name, {})} for name in shipped() if name not in MODELS]
