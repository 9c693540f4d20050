"""Is a source what it is expected to be: files, holes, sizes, revision, and the tokens that a defect costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ettin_data.base.errors import SourceError
from ettin_data.base.extras import MissingPackage
from ettin_data.base.redact import redact
from ettin_data.base.units import count, size
from ettin_data.sources.base import Source, TransportOptions, is_local
from ettin_data.sources.listing import Survey, survey
from ettin_data.sources.manifest import Manifest, ManifestDiff, compare_listings

BYTES_TOLERANCE = 0.02  # published totals are rounded


@dataclass(frozen=True)
class SourceCheck:
    """What a check found. Tokens are estimates: a source's tokens are taken as spread evenly over its files.

    Attributes:
        files, bytes: what is there; the expected numbers are None where none is known.
        missing: names that must be there; `unmatched` globs match nothing at all.
        empty: files of no bytes.
        unlisted: MDS shards that no index names, so that nothing reads them.
        changed: the difference to the manifest given, if one was.
        lost_share: of the source, that is missing (0 to 1).
        lost_tokens: of the upstream (or, if its size is not known, of the largest target).
        short: phase -> target tokens that what is left cannot give in the passes that the whole would have needed.
        revision: what the hub says about the pinned revision, or None.
        notes: sentences for a person that are no defects.
        error: why the source cannot be listed at all, or None.
    """

    key: str
    root: str
    files: int = 0
    bytes: int = 0
    expected_files: int | None = None
    expected_bytes: int | None = None
    missing: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    changed: ManifestDiff | None = None
    lost_share: float = 0.0
    lost_tokens: int = 0
    short: Mapping[str, int] = field(default_factory=dict)
    revision: str | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether everything that is expected is there, unchanged."""
        return not self.problems()

    def problems(self) -> list[str]:
        """What is wrong, one sentence each."""
        if self.error is not None:
            return [self.error]
        found = []
        if self.unmatched:
            found.append(f"nothing matches {_some(self.unmatched)}")
        if self.missing:
            found.append(f"{len(self.missing):,} files are missing: {_some(self.missing)}")
        elif self.expected_files is not None and self.files != self.expected_files:
            found.append(f"{self.files:,} files are there, {self.expected_files:,} are expected")
        if self.empty:
            found.append(f"{len(self.empty):,} files have no bytes: {_some(self.empty)}")
        if self.unlisted:
            found.append(f"{len(self.unlisted):,} shards are in no index: {_some(self.unlisted)}")
        if self.expected_bytes and abs(self.bytes / self.expected_bytes - 1) > BYTES_TOLERANCE:
            found.append(f"{size(self.bytes)} are there, about {size(self.expected_bytes)} are expected")
        if self.changed:
            lines = self.changed.lines()
            found.append(f"{len(lines):,} files differ from the manifest: {_some(tuple(lines))}")
        if self.lost_tokens:
            short = ", ".join(f"{phase} lacks {count(tokens)}" for phase, tokens in self.short.items())
            found.append(f"that costs about {count(self.lost_tokens)} tokens" + (f"; {short}" if short else ""))
        return found


def check_source(
    source: Source,
    *,
    targets: Mapping[str, int],
    manifest: Manifest | None = None,
    transport: TransportOptions | None = None,
) -> SourceCheck:
    """List a source, the upstream or a mirror, and compare it with what is expected. Never raises `SourceError`.

    `targets`: phase -> tokens that are wanted of it (`recipe.shipped_targets`).
    """
    try:
        found = survey(source, transport=transport)
    except (SourceError, MissingPackage) as error:
        return SourceCheck(
            source.key,
            redact(source.root),
            error=str(error),
            lost_share=1.0,
            lost_tokens=_upstream(source, targets),
            short=dict(targets),
        )
    return assess(source, found, targets, manifest=manifest, revision=_revision(source))


def assess(
    source: Source,
    found: Survey,
    targets: Mapping[str, int],
    *,
    manifest: Manifest | None = None,
    revision: tuple[str | None, str] | None = None,
) -> SourceCheck:
    """Compare a survey with what is expected of its source; pure."""
    lost = set(found.missing)
    there = [file for file in found.files if file.path not in lost]
    empty = tuple(file.path for file in there if file.size == 0)
    usable = len(there) - len(empty)
    expected = source.files
    if expected is None and found.missing:
        expected = len(found.files)
    share = max(0.0, 1 - usable / expected) if expected else float(not usable)
    upstream = _upstream(source, targets)
    short = {}
    for phase, target in targets.items():
        # A target below the source's size has room to spare; one above it needs every file in each of its passes.
        left = upstream * (1 - share) * max(1.0, target / upstream) if upstream else 0.0
        if share and target > left:
            short[phase] = math.ceil(target - left)
    notes = [source.note] if source.note else []
    if source.gated:
        notes.append(f"access: {source.gated if isinstance(source.gated, str) else 'accept the terms, set a token'}")
    if revision and revision[1]:
        notes.append(revision[1])
    return SourceCheck(
        key=source.key,
        root=redact(source.root),
        files=len(there),
        bytes=sum(max(file.size, 0) for file in there),
        expected_files=source.files,
        expected_bytes=source.bytes,
        missing=found.missing,
        unmatched=found.unmatched,
        empty=empty,
        unlisted=found.unlisted,
        changed=compare_listings(manifest, found.files) if manifest else None,
        lost_share=share,
        lost_tokens=round(upstream * share),
        short=short,
        revision=revision[0] if revision else None,
        notes=tuple(notes),
    )


def _upstream(source: Source, targets: Mapping[str, int]) -> int:
    return source.upstream_tokens or max(targets.values(), default=0)


def _revision(source: Source) -> tuple[str | None, str] | None:
    """(the commit that the pinned revision of a hub data set stands for, a note if the hub has moved on)."""
    if is_local(source.root) or not source.root.startswith("hf://datasets/"):
        return None
    from huggingface_hub import HfApi

    org, name = source.root.removeprefix("hf://datasets/").split("/")[:2]
    name, _, pin = name.partition("@")
    try:
        pinned = HfApi().dataset_info(f"{org}/{name}", revision=pin or None).sha
        latest = HfApi().dataset_info(f"{org}/{name}").sha if pin else pinned
    except Exception as error:  # the listing already worked; this only adds a note
        return None, f"the revision could not be asked for: {redact(error)[:200]}"
    moved = f"the hub has moved on to {str(latest)[:12]}; this build stays at its pin" if latest != pinned else ""
    return pinned, moved


def _some(names: tuple[str, ...], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f", and {len(names) - shown:,} more" if len(names) > shown else "")
