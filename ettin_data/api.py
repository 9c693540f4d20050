"""What `import ettin_data` gives: a phase from recipe to samples in a few lines of Python.

    import ettin_data

    recipe = ettin_data.load_recipe("decay", scale=1e-5).changed("order.batch=16")
    print(ettin_data.plan(recipe, "runs/mine", sources_root="mirror"))
    ettin_data.build(recipe, "runs/mine", sources_root="mirror", progress=True)
    phase = ettin_data.open_run("runs/mine")["decay"]
    for sample in phase.step(0):
        print(sample.id, sample.tokens[:8])

Everything here is a thin word for what `build`, `inspect` and `verify` do; what they do at length is documented there.
"""

from __future__ import annotations

from pathlib import Path

from ettin_data.base.progress import SILENT, Progress
from ettin_data.build.build import build_phase
from ettin_data.build.plan import Plan
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.executor import ExecutorOptions
from ettin_data.inspect.lookup import Phase, open_phases
from ettin_data.recipe import Recipe, load_recipe
from ettin_data.storage.phase import phases_in
from ettin_data.storage.records import RunRecord
from ettin_data.verify import VerifyOptions, verify_phase
from ettin_data.verify.model import Report

__all__ = ["Phase", "Recipe", "build", "load_recipe", "open_run", "plan", "verify"]


def plan(recipe: Recipe, out: str | Path, *, sources_root: str | None = None) -> Plan:
    """What a build of the recipe would read and make; no data is read.

    Args:
        recipe: from `load_recipe`.
        out: the run folder that a build would have.
        sources_root: a mirror of the upstreams (folder or URL); None for the upstreams themselves.

    Raises:
        EttinError: a source, a file, the tokenizer or a filter that the recipe names is not to be had.
    """
    return resolve(recipe, BuildOptions(Path(out), sources_root)).plan


def build(
    recipe: Recipe,
    out: str | Path,
    *,
    sources_root: str | None = None,
    workers: int | ExecutorOptions | None = None,
    progress: bool | Progress = False,
) -> RunRecord:
    """Build a phase, or what is missing of it, into `<out>/<phase>`; returns what its `run.json` says.

    Args:
        recipe, out, sources_root: as of `plan`.
        workers: processes at once; None or 1 works in this process; `ExecutorOptions` for Ray, limits and retries.
            Processes need a script with `if __name__ == "__main__":`, as everywhere in Python.
        progress: True shows a bar, in a terminal or in a notebook.

    Raises:
        EttinError: with the place and the remedy. What is finished stays, and the same call continues.
    """
    options = BuildOptions(
        Path(out), sources_root, executor=_workers(workers), progress=_progress(progress, recipe.phase)
    )
    return build_phase(recipe, options)


def open_run(path: str | Path) -> dict[str, Phase]:
    """The finished phases of a run, by name, in the order of training. Nothing else is read before it is asked for.

    Args:
        path: folder of a run, or of one of its phases.

    Raises:
        EttinError: there is no finished phase.
    """
    return {phase.name: phase for phase in open_phases(Path(path))}


def verify(
    path: str | Path,
    *,
    full: bool = False,
    workers: int | ExecutorOptions | None = None,
    progress: bool | Progress = False,
) -> list[Report]:
    """Verify the phases of a run, or one phase: a report for each. Reads only.

    Args:
        path: folder of a run or of a phase.
        full: decode every sample and apply every law again, instead of hashing files.
        workers, progress: as of `build`.

    Raises:
        EttinError: there is nothing to verify.
    """
    return [
        verify_phase(phase.folder, VerifyOptions(full, _workers(workers), _progress(progress, phase.name)))
        for phase in phases_in(Path(path))
    ]


def _workers(workers: int | ExecutorOptions | None) -> ExecutorOptions | None:
    if isinstance(workers, ExecutorOptions):
        return workers
    return ExecutorOptions("local", workers) if workers and workers > 1 else None


def _progress(progress: bool | Progress, name: str) -> Progress:
    if isinstance(progress, bool):
        if not progress:
            return SILENT
        from ettin_data.bar import Bar

        return Bar(name)
    return progress
