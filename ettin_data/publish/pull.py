"""Take a published run back: what is not here yet, each file checked against the digest that the place has made."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ettin_data.base import files, shapes
from ettin_data.base.errors import BuildError, ExitStatus
from ettin_data.base.lock import locked
from ettin_data.base.progress import SILENT, Progress, stage
from ettin_data.publish.contents import Hashes
from ettin_data.publish.publish import remote_of
from ettin_data.publish.remote import Held, Remote
from ettin_data.publish.target import Target
from ettin_data.sources.base import TransportOptions
from ettin_data.storage.phase import POOLS, RUN, Phase

_AT_ONCE = 8


@dataclass(frozen=True)
class Pulled:
    """A phase that was taken.

    Attributes:
        taken, here: files that came, and that were here already. bytes: of those that came.
        whole: whether it was published with its pools, so that `verify` has all that it needs.
    """

    folder: Path
    taken: int
    here: int
    bytes: int
    whole: bool


def pull_run(
    target: Target, out: Path, *, transport: TransportOptions | None = None, progress: Progress = SILENT
) -> list[Pulled]:
    """Take every phase that is published at a target into `<out>/<phase>`.

    A file that is here with the digest that the place states is not taken again; `run.json`, by which a phase counts as
    finished, comes last. So the same call continues after any interruption.

    Raises:
        BuildError: there is no phase at the target, a path that leads elsewhere, another file in the place of one, or a
            file that did not come as the place has it. SourceError: the network stays down.
    """
    remote = remote_of(target, transport or TransportOptions(), False)
    there = remote.there()
    phases = sorted({path.partition("/")[0] for path in there if path.count("/") == 1 and path.endswith(f"/{RUN}")})
    if not phases:
        raise BuildError(f"there is no run at {target}", remedy="look at its name", status=ExitStatus.NOT_FOUND)
    taken = []
    for phase in phases:
        wanted = {path: held for path, held in there.items() if path.startswith(f"{phase}/")}
        for path in wanted:
            if not shapes.is_relative_path(path):
                raise BuildError(f"a path leads elsewhere: {path!r}", where=target)
        (out / phase).mkdir(parents=True, exist_ok=True)
        size = sum(held.bytes for held in wanted.values())
        with locked(Phase(out / phase, phase).lock), stage(progress, f"pull {phase}", len(wanted), size):
            taken.append(_phase(remote, phase, wanted, out, progress))
    return taken


def _phase(remote: Remote, phase: str, wanted: Mapping[str, Held], out: Path, progress: Progress) -> Pulled:
    last = f"{phase}/{RUN}"

    def take(path: str) -> bool:
        held = wanted[path]
        came = _take(remote, path, held, out / path)
        progress.advance(held.bytes)
        return came

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = sorted(path for path in wanted if path != last)
        came = dict(zip(names, pool.map(take, names), strict=True))
    came[last] = take(last)
    number = sum(came.values())
    size = sum(wanted[path].bytes for path, new in came.items() if new)
    return Pulled(
        out / phase, number, len(came) - number, size, any(path.startswith(f"{phase}/{POOLS}/") for path in wanted)
    )


def _take(remote: Remote, path: str, held: Held, to: Path) -> bool:
    """Whether it had to come."""
    if to.exists():
        if held.agrees(Hashes.of(to)):
            return False
        raise BuildError(
            "another file is here already",
            where=to,
            why=f"its digest is not that of {path} there",
            remedy="pull into another folder, or remove it",
        )
    with files.replacing(to) as temporary:
        remote.fetch(path, temporary)
        if not held.agrees(Hashes.of(temporary)):
            raise BuildError(
                "a file did not come as it is there", where=path, why=f"{held.kind} {held.digest} is its digest"
            )
    return True
