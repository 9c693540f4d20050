"""Shares of a build in processes of their own, whose imports are done before they begin: what is killed is work."""

from __future__ import annotations

import functools
import multiprocessing
from pathlib import Path
from typing import Any

from ettin_data.chaos.child import PRELOADED
from ettin_data.recipe import Recipe


def _main(recipe: str, out: Path, share: str) -> None:
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.build.share_build import build_share
    from ettin_data.build.shares import Share

    build_share(Recipe.model_validate_json(recipe), BuildOptions(out, executor=None), Share.parse(share))


@functools.cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "ettin_data.build.share_build"])
    return context


def start(recipe: Recipe, out: Path, share: str) -> Any:
    process = _context().Process(target=_main, args=(recipe.model_dump_json(), out, share))
    process.start()
    return process
