"""`plan.json` and `run.json` as types: what a build of a phase will do, and what it did. Read and written here only.

To add a fact, add a field with a default: files that were written before it are then read as before, and a reader of
before keeps a field that it does not know. `FORMAT` is raised when a field changes its meaning; a file without a
format is of the first. Both files carry the digest of their own text (`base.sealed_json`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ettin_data.base import sealed_json
from ettin_data.base.errors import BuildError, FormatError, ShardError
from ettin_data.base.version import VERSION
from ettin_data.storage.phase import Phase

FORMAT = 1
_FORMAT = re.compile(rb'^ "format": (\d+)', re.MULTILINE)  # a member of the outermost object


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


def repaired(noted: Mapping[str, int]) -> int:
    """Documents with characters that were no UTF-8 and were replaced, of what is `noted` of a split or a source."""
    return sum(number for what, number in noted.items() if what.startswith("repaired_"))


class PlannedSource(_Record):
    """One source of a plan: what it shall give, and what reading it will take.

    Attributes:
        target_tokens: after scaling, framing tokens included.
        files, splits: that the build reads; `listed_files` has the source.
        expected_tokens: of those, from their size; `expected_passes` through them meet the target.
        expected_bytes: of the target in shards.
    """

    category: str
    target_tokens: int
    files: int
    splits: int
    input_bytes: int
    listed_files: int
    expected_tokens: int
    expected_passes: float
    expected_bytes: int


class BuiltSource(_Record):
    """One source of a run, under the names of its plan.

    Attributes:
        tokens, documents, samples: in `train/`; documents of one pass.
        passes: through the pool.
        validation_tokens, validation_documents: held out.
        pool_tokens, pool_samples: of all finished splits.
        left_out: documents of the pool that attributes leave out, by reason (ARCHITECTURE 5.10).
        not_taken: documents of the pool that are in no part all the same: over the target, or all of whose samples
            have a part of a document that is left out or held out. With these, each document is counted once. None
            in runs of versions that did not count them.
        records: read; of them `rejected` and `filtered` by reason; `damaged_files` that broke off, by reason.
        lost_records: what those files probably held besides what was read of them; `lost_files` names the first ones,
            each with its place and reason.
        noted: what was odd and is used all the same, by kind.
        tokens_in: of the text of the documents used; of them `skipped_tokens` by reason.
        checked_documents: encoded twice, to compare; `backends` that encoded -> splits; `fallbacks` with their cause.
        steps: step of the way of a split -> what it counted (ARCHITECTURE 3).
        roots: source or copy -> digest of its samples in `train/`.
    """

    category: str
    target_tokens: int
    tokens: int
    documents: int
    samples: int
    passes: float
    files: int
    splits: int
    validation_tokens: int
    validation_documents: int
    pool_tokens: int
    pool_samples: int
    records: int
    rejected: dict[str, int]
    filtered: dict[str, int]
    damaged_files: dict[str, int]
    lost_records: int = 0
    lost_files: list[str] = []
    left_out: dict[str, int] = {}
    not_taken: dict[str, int] | None = None
    noted: dict[str, int]
    tokens_in: int
    skipped_tokens: dict[str, int]
    checked_documents: int
    backends: dict[str, int]
    fallbacks: list[str]
    steps: dict[str, Any] = {}
    roots: dict[str, str]

    @property
    def repaired(self) -> int:
        """Documents with characters that were no UTF-8 and were replaced."""
        return repaired(self.noted)


class OrderRecord(_Record):
    """The order law of a run (ARCHITECTURE 5.6) and the digest of its positions."""

    law: str
    seed: int
    epoch: int
    samples: int
    batch: int
    steps: int
    digest: str


class PlanRecord(_Record):
    """What `plan.json` says. It names no absolute path and no credential.

    Attributes:
        recipe: as JSON, secrets left out.
        totals: sums of `sources`, under their names.
        split_files: source -> split -> its files (`SourceFile.describe`).
    """

    format: int = Field(FORMAT, ge=1, le=FORMAT)
    phase: str
    recipe: dict[str, Any]
    totals: dict[str, int]
    sources: dict[str, PlannedSource]
    split_files: dict[str, dict[str, list[dict[str, Any]]]]


class RunRecord(_Record):
    """What `run.json` says of a finished phase.

    Attributes:
        root: the one line that two laboratories compare; `roots` are what it is made of (`storage.digests`).
        totals: sums of `sources`, under their names.
        tokenizer: `Tokenizer.describe`; `vocabulary` is what it is to everything behind it, None in older runs.
        recipe: as JSON, secrets left out.
        layout: of the shards: `columns`, `length`.
        executor, versions: of record only.
        digests: digest that `digests.json` carries.
        seconds: that this build took.
    """

    format: int = Field(FORMAT, ge=1, le=FORMAT)
    phase: str
    root: str
    roots: dict[str, str]
    order: OrderRecord
    totals: dict[str, int]
    sources: dict[str, BuiltSource]
    tokenizer: dict[str, Any]
    vocabulary: dict[str, Any] | None = None
    recipe: dict[str, Any]
    layout: dict[str, Any]
    executor: dict[str, Any]
    versions: dict[str, str]
    digests: str
    seconds: float


Record = TypeVar("Record", PlanRecord, RunRecord)


def totals(sources: Mapping[str, PlannedSource | BuiltSource], *names: str) -> dict[str, int]:
    """Sums over the sources of their targets, files, splits and what else is named."""
    return {
        name: sum(getattr(source, name) for source in sources.values())
        for name in ("target_tokens", "files", "splits", *names)
    }


def write_record(phase: Phase, record: PlanRecord | RunRecord) -> str:
    """Write a record into its phase; returns the digest that the file carries."""
    return sealed_json.write(_path(phase, type(record)), record.model_dump(mode="json"))


def read_run(phase: Phase) -> RunRecord:
    """What a finished phase says of itself. Errors as of `read_plan`."""
    return _read(phase, RunRecord)


def read_plan(phase: Phase) -> PlanRecord:
    """What a build of the phase will do.

    Raises:
        BuildError: there is no such file.
        FormatError: it is of a newer format.
        ShardError: it is damaged, or has not all that it should have.
    """
    return _read(phase, PlanRecord)


def recipe_of(phase: Phase) -> dict[str, Any] | None:
    """The recipe, as JSON, of the run; of the plan where there is no run that can be read; None without either."""
    readers: tuple[Callable[[Phase], RunRecord | PlanRecord], ...] = (read_run, read_plan)
    for read in readers:
        try:
            return read(phase).recipe
        except (BuildError, ShardError):
            continue
    return None


def refuse_newer(phase: Phase) -> None:
    """Raise `FormatError` if a record of the phase is of a newer format: nothing is then to be written there."""
    for path in (phase.run_json, phase.plan_json):
        if path.exists():
            _refuse_newer(path, path.read_bytes())


def _refuse_newer(path: Path, data: bytes) -> None:
    stated = _FORMAT.search(data)  # before the digest is looked at, which a newer format may have elsewhere
    if stated is not None and int(stated[1]) > FORMAT:
        raise FormatError(
            f"{path.name} has format {int(stated[1])}",
            where=path,
            why=f"this is ettin-data {VERSION}, which knows formats up to {FORMAT}",
            remedy="update ettin-data: pip install -U ettin-data",
        )


def _path(phase: Phase, kind: type[PlanRecord] | type[RunRecord]) -> Path:
    return phase.run_json if kind is RunRecord else phase.plan_json


def _read(phase: Phase, kind: type[Record]) -> Record:
    path = _path(phase, kind)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BuildError(
            f"there is no {path.name}", where=phase.folder, why="its build has not ended", remedy="run it again"
        ) from None
    _refuse_newer(path, data)
    try:
        return kind.model_validate(sealed_json.unseal(data, path))
    except ValidationError as error:
        first = error.errors()[0]
        raise ShardError(
            f"{path.name} is damaged",
            where=path,
            why=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            remedy="`ettin-data repair` writes it again",
        ) from error
