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
from typing import TYPE_CHECKING, Any, Literal

from ettin_data.base.errors import OrderError
from ettin_data.base.extras import need
from ettin_data.base.progress import SILENT, Progress
from ettin_data.build.build import build_phase
from ettin_data.build.plan import Plan
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.executor import ExecutorOptions
from ettin_data.inspect.lookup import Phase, open_phases
from ettin_data.load.rows import to_datasets
from ettin_data.order.loader_edits import FormKind
from ettin_data.recipe import Recipe, load_recipe
from ettin_data.storage.phase import phases_in
from ettin_data.storage.records import RunRecord
from ettin_data.verify import VerifyOptions, verify_phase
from ettin_data.verify.model import Report

if TYPE_CHECKING:
    from ettin_data.load.dataset import OrderedDataset
    from ettin_data.load.loader import SampleLoader

__all__ = [
    "Phase",
    "Recipe",
    "build",
    "load_recipe",
    "open_run",
    "plan",
    "to_datasets",
    "torch_dataset",
    "torch_loader",
    "verify",
]


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


def torch_dataset(path: str | Path, *, form: FormKind = "stored", order: str | Path | None = None) -> OrderedDataset:
    """A finished phase as a torch `Dataset`: `[i]` is the sample at place i of the order of training.

    An item has `input_ids` (int64, as long as the sample), `sample` (its position in `train/index.json`) and, where
    samples hold several documents, `cu_seqlens`. `.stream(batch_size, rank, world)` is an `IterableDataset` of it.

    Args:
        path: folder of the phase, such as runs/demo/decay.
        form: samples as "stored", or as the phase's loader gives them to an "encoder" or a "decoder".
        order: folder of another order index of the phase, such as one that `ettin-data order make --epoch 1` wrote.

    Raises:
        EttinError: torch is not installed, the phase is not finished, or the order is not one of its samples.
    """
    need("torch", "torch_dataset")
    from ettin_data.load.dataset import OrderedDataset

    return OrderedDataset(path, form, order)


def torch_loader(
    path: str | Path,
    batch_size: int,
    *,
    layout: Literal["padded", "packed"] = "padded",
    form: FormKind = "stored",
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    order: str | Path | None = None,
    **options: Any,
) -> SampleLoader:
    """A torch `DataLoader` over a finished phase in its order, resumed at any sample by its `load_state_dict(state)`.

    Padded batches have `input_ids` and `attention_mask`, int64 (batch_size, longest). Packed ones have all samples end
    to end: `input_ids` and `position_ids` int64 (tokens,), `cu_seqlens` int32 (documents + 1,), `max_seqlen`. Both have
    `sample`, the positions of their samples in `train/index.json`.

    Args:
        path, form, order: as of `torch_dataset`.
        batch_size: samples of a batch of this rank. `order.batch` samples of all ranks are a step.
        layout: "padded" or "packed".
        rank, world: this process of all that train; rank r reads places r, r + world, … of the order.
        workers: processes that read ahead; 0 reads in this one. They change nothing of what is read.
        options: others of `DataLoader`, such as `pin_memory=True`.

    Raises:
        EttinError: as of `torch_dataset`; there is no such rank or layout.
    """
    if layout not in ("padded", "packed"):
        raise OrderError(f"there is no layout {layout!r}", remedy='use "padded" or "packed"')
    dataset = torch_dataset(path, form=form, order=order)
    from ettin_data.load.collate import Packed, Padded
    from ettin_data.load.loader import SampleLoader

    collate = Packed() if layout == "packed" else Padded(dataset.form.loader.vocabulary.pad)
    return SampleLoader(dataset, batch_size, collate, rank=rank, world=world, workers=workers, **options)


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
