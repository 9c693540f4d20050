"""The files that the sources of a recipe have, against those that they had when the run was planned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ettin_data import sources
from ettin_data.base.errors import ExitStatus, SourceError
from ettin_data.base.redact import redact
from ettin_data.build import bad_input
from ettin_data.sources import manifest as frozen_listing
from ettin_data.sources.access.retry import Unreachable
from ettin_data.sources.base import Source, SourceFile, TransportOptions, is_local, local_path
from ettin_data.sources.listing import listed
from ettin_data.storage.phase import Phase

if TYPE_CHECKING:
    from ettin_data.build.prepare import BuildOptions

_PROBLEMS = 20  # that one message names


def list_sources(
    chosen: Mapping[str, Source],
    phase: Phase,
    part_bytes: int | None,
    transport: TransportOptions,
    options: BuildOptions,
) -> dict[str, tuple[Sequence[SourceFile], frozen_listing.Manifest | None]]:
    """The listings of all sources: those of this machine first, which cost nothing, and what is wrong of all at once.

    Raises `SourceError`; a network that is not there is said of the first source that needs it.
    """
    root = options.sources_root
    if root is not None and is_local(root) and not os.path.isdir(local_path(root)):
        raise SourceError(
            "there is no such mirror",
            where=root,
            why="it is a file" if os.path.exists(local_path(root)) else "there is no such folder",
            remedy="name the folder below which the upstreams lie, with --sources-root; see `ettin-data sources`",
            status=ExitStatus.NOT_FOUND,
        )
    found = {}
    problems: list[SourceError] = []
    for key in sorted(chosen, key=lambda key: (not is_local(chosen[key].root), key)):
        try:
            found[key] = _listing(chosen[key], phase, part_bytes, transport, options)
        except Unreachable as error:
            problems.append(error)
            break
        except SourceError as error:
            problems.append(error)
    if problems:
        raise _together(problems)
    return {key: found[key] for key in chosen}


def _together(problems: Sequence[SourceError]) -> SourceError:
    """Several as one: what, where and why of each, and the remedies."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"{error.what}; {error.where}; {error.why}" for error in problems[:_PROBLEMS]]
    more = [f"and {len(problems) - _PROBLEMS:,} more"] if len(problems) > _PROBLEMS else []
    return SourceError(
        f"{len(problems):,} sources cannot be listed",
        why="\n    ".join([*lines, *more]),
        remedy="; ".join(dict.fromkeys(error.remedy for error in problems[:3] if error.remedy)) or None,
        status=max(error.exit_status for error in problems),
    )


def _listing(
    source: Source, phase: Phase, part_bytes: int | None, transport: TransportOptions, options: BuildOptions
) -> tuple[Sequence[SourceFile], frozen_listing.Manifest | None]:
    """The files that a source has, and the listing to be frozen where there is none that holds."""
    found = listed(source, transport=transport)
    if said := found.said():
        options.progress.say(f"source {source.key!r}: {said}")
    files = list(found.files)
    path = phase.listing(source.key)
    if path.exists() and not options.relist:
        try:
            frozen = frozen_listing.load_manifest(path)
        except SourceError as error:
            options.progress.say(f"{path} is damaged ({error.why}): the source is listed again")
        else:
            if frozen.root == redact(source.root) and frozen.globs == source.globs:
                mended = bad_input.mended(phase, source.key, frozen_listing.compare_listings(frozen, files))
                if not mended:
                    frozen_listing.require_same(frozen, source, files)
                if frozen.part_bytes == part_bytes and not mended:
                    return frozen.files, None
    if part_bytes is not None:
        files = sources.cut_files(source, files, part_bytes, transport)
    return files, frozen_listing.freeze(source, files, part_bytes)
