"""`plan.json` and `run.json` as types: what a build of a phase will do, and what it did. Read and written here only.

To add a fact, add a field with a default: files that were written before it are then read as before, and a reader of
before keeps a field that it does not know. `FORMAT` is raised when a field changes its meaning; a file without a
format is of the first. Both files carry the digest of their own text (`base.sealed_json`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from ettin_data.base import files, sealed_json
from ettin_data.base.errors import BuildError, ExitStatus, FormatError, ShardError, TokenizerError
from ettin_data.base.shapes import MOST, Counter, FileDigest, Number, PlainName, Shape, Word, first_problem, require
from ettin_data.base.version import VERSION
from ettin_data.storage.phase import Phase
from ettin_data.tokenizer.vocabulary import Vocabulary

FORMAT = 1
_FORMAT = re.compile(rb'^ "format": (\d{1,9})', re.MULTILINE)  # a member of the outermost object


Share = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=1 << 128)]


class _Record(Shape):
    """Read strictly: whoever looks into a run gets the types and ranges that stand here."""


class _Tokenizer(_Record):
    name: str | None = None
    sha256: str | None = None
    frame: dict[str, str | list[str] | None] | None = None


class _Order(_Record):
    seed: Seed
    epoch: Seed
    batch: Annotated[int, Field(ge=1)] = 4608
    law: Word | None = None


class _Loader(_Record):
    rule: Word = "ettin"
    max_seq_len: Annotated[int, Field(ge=2, le=MOST)] | None = None


class _Training(_Record):
    mask: Annotated[float, Field(gt=0, lt=1)] | None = None
    rope: Annotated[float, Field(gt=1)] | None = None
    rope_local: Annotated[float, Field(gt=1)] | None = None
    schedule: Literal["warmup", "one_minus_sqrt"] | None = None
    start: Annotated[float, Field(ge=0, le=1)] | None = None
    end: Annotated[float, Field(ge=0, le=1)] | None = None
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = None


class _Source(_Record):
    tokens: Number
    passes: Annotated[float, Field(gt=0)] | None = None


class _Attribute(_Record):
    step: Word


class _Recipe(_Record):
    """What is read of a recipe by those that look into a run; a build reads all of it (`recipe.Recipe`)."""

    length: Annotated[int, Field(ge=3, le=1 << 24)]
    seed: Seed
    tokenizer: _Tokenizer
    pack: dict[str, Any] | str
    order: _Order
    loader: _Loader | None = None
    training: _Training | None = None
    sources: dict[PlainName, _Source]
    attributes: list[_Attribute] = []


class _FoundTokenizer(_Record):
    sha256: Word
    vocab_size: Number | None = None


class _Layout(_Record):
    columns: dict[str, str]
    length: Number


def _shaped(shape: type[Shape]) -> Any:
    """A validator that only looks: the value stays as it is."""

    def checked(value: dict[str, Any]) -> dict[str, Any]:
        require(shape, value)
        return value

    return AfterValidator(checked)


def _as_vocabulary(value: dict[str, Any]) -> dict[str, Any]:
    try:
        Vocabulary.from_json(value)
    except TokenizerError as error:
        raise ValueError(str(error.why)) from None
    return value


Recipe = Annotated[dict[str, Any], _shaped(_Recipe)]
"""A recipe as JSON, of which is there what those that look into a run need."""


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
    target_tokens: Number
    files: Number
    splits: Number
    input_bytes: Number
    listed_files: Number
    expected_tokens: Number
    expected_passes: Share
    expected_bytes: Number


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
    target_tokens: Number
    tokens: Number
    documents: Number
    samples: Number
    passes: Share
    files: Number
    splits: Number
    validation_tokens: Number
    validation_documents: Number
    pool_tokens: Number
    pool_samples: Number
    records: Number
    rejected: Counter
    filtered: Counter
    damaged_files: Counter
    lost_records: Number = 0
    lost_files: list[str] = []
    left_out: Counter = {}
    not_taken: Counter | None = None
    noted: Counter
    tokens_in: Number
    skipped_tokens: Counter
    checked_documents: Number
    backends: Counter
    fallbacks: list[str]
    steps: dict[str, Any] = {}
    roots: dict[str, str]

    @property
    def repaired(self) -> int:
        """Documents with characters that were no UTF-8 and were replaced."""
        return repaired(self.noted)


class EarlierOrder(_Record):
    """An order that a run's goes on from: as of `order.appended.Earlier`, whose places stand in the index."""

    samples: Number
    digest: str
    data_digest: str


class OrderRecord(_Record):
    """The order law of a run (ARCHITECTURE 5.6) and the digest of its positions.

    Attributes:
        interval_steps: of a checkpoint interval; None in older runs.
        earlier: the orders that it goes on from, the first one first.
    """

    law: str
    seed: Seed
    epoch: Seed
    samples: Number
    batch: Number
    steps: Number
    digest: str
    interval_steps: Number | None = None
    earlier: list[EarlierOrder] = []


class StageTime(_Record):
    """How long a stage of a build took: seconds by the wall, and of the processors of the build and its workers."""

    seconds: Share
    cpu_s: Share


class PlanRecord(_Record):
    """What `plan.json` says. It names no absolute path and no credential.

    Attributes:
        recipe: as JSON, secrets left out.
        totals: sums of `sources`, under their names.
        split_files: source -> split -> its files (`SourceFile.describe`).
    """

    format: int = Field(FORMAT, ge=1, le=FORMAT)
    phase: str
    recipe: Recipe
    totals: Counter
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
        digests: digest that `digests.json` carries; `plan` that of `plan.json`, None in older runs.
        card: the card as the build wrote it, as of `files.digest`; None in older runs.
        seconds: that this build took, from its first to its last stage.
        stages: stage -> how long it took of this build (`build.clock`); empty in older runs.
    """

    format: int = Field(FORMAT, ge=1, le=FORMAT)
    phase: str
    root: str
    roots: dict[str, str]
    order: OrderRecord
    totals: Counter
    sources: dict[str, BuiltSource]
    tokenizer: Annotated[dict[str, Any], _shaped(_FoundTokenizer)]
    vocabulary: Annotated[dict[str, Any], AfterValidator(_as_vocabulary)] | None = None
    recipe: Recipe
    layout: Annotated[dict[str, Any], _shaped(_Layout)]
    executor: dict[str, Any]
    versions: dict[str, str]
    digests: str
    plan: str | None = None
    card: FileDigest | None = None
    seconds: Share
    stages: dict[Word, StageTime] = {}


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


def refuse_newer(phase: Phase) -> None:
    """Raise `FormatError` if a record of the phase is of a newer format: nothing is then to be written there."""
    for path in (phase.run_json, phase.plan_json):
        if path.exists():
            _refuse_newer(path, _bytes(path))


def _refuse_newer(path: Path, data: bytes) -> None:
    stated = _FORMAT.search(data)  # before the digest is looked at, which a newer format may have elsewhere
    if stated is not None and int(stated[1]) > FORMAT:
        raise FormatError(
            f"{path.name} has format {int(stated[1])}",
            where=path,
            why=f"this is ettin-data {VERSION}, which knows formats up to {FORMAT}",
            remedy="update ettin-data: pip install -U ettin-data",
        )


def _bytes(path: Path) -> bytes:
    try:
        return files.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ShardError(f"{path.name} cannot be read", where=path, why=error) from error


def _path(phase: Phase, kind: type[PlanRecord] | type[RunRecord]) -> Path:
    return phase.run_json if kind is RunRecord else phase.plan_json


def _read(phase: Phase, kind: type[Record]) -> Record:
    path = _path(phase, kind)
    try:
        data = _bytes(path)
    except FileNotFoundError:
        raise BuildError(
            f"there is no {path.name}",
            where=phase.folder,
            why="its build has not ended",
            remedy="run it again: what is finished stays",
            status=ExitStatus.INCOMPLETE,
        ) from None
    _refuse_newer(path, data)
    try:
        return kind.model_validate(sealed_json.unseal(data, path))
    except ValidationError as error:
        raise ShardError(
            f"{path.name} is damaged",
            where=path,
            why=first_problem(error),
            remedy="`ettin-data repair` writes it again",
        ) from error
