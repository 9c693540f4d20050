"""The part of the command line about batch orders: `ettin-data order make | append | export | verify | explain`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ettin_data.base.errors import EttinError, ExitStatus, OrderError
from ettin_data.cli.shared import (
    FrameText,
    Json,
    Kind,
    MaxLength,
    PhaseName,
    RayAddress,
    TokenizerName,
    Workers,
    bar,
    fail,
    loader_named,
    parallel,
    tell,
    tell_json,
    words,
)
from ettin_data.storage.phase import INDEX, ORDER, TRAIN, open_phase

app = typer.Typer(help="Make, export and verify the batch order of a phase.", no_args_is_help=True)

Data = Annotated[str, typer.Option(help="A phase, or a folder or URL with an MDS index.json.")]
Published = Annotated[str, typer.Option(help="Folder or URL of parquet files, such as hf://datasets/org/name.")]
AnyLaw = Annotated[
    str | None,
    typer.Option(
        "--law",
        help="Of another loader, as mosaicml-streaming-v1:shuffle=py1e,ranks=8; ettin-v1 for the order index. Default: "
        "what the recipe says.",
    ),
]
Form = Annotated[str | None, typer.Option("--as", help="stored, encoder or decoder.")]


@app.command()
def make(
    data: Annotated[Path, typer.Argument(help="Folder with an MDS index.json.")],
    out: Annotated[Path | None, typer.Option(help="Where; default: `order` beside the data.")] = None,
    seed: int = 21,
    epoch: int = 0,
    batch: int = 4608,
    interval_steps: Annotated[int | None, typer.Option(help="Steps between two checkpoints.")] = None,
    interval_tokens: Annotated[str, typer.Option(help="Or tokens between them, as 8.5B.")] = "8.5B",
    phase: Annotated[str, typer.Option(help="Name to write into the index.")] = "pretrain",
) -> None:
    """Write the batch-order index of a data folder."""
    from ettin_data.base.units import parse_count
    from ettin_data.order import index as order
    from ettin_data.storage.mds import MdsReader

    reader = MdsReader(data)
    law = order.OrderLaw(seed, epoch, len(reader), batch)
    steps = interval_steps or order.interval_steps(parse_count(interval_tokens), _tokens(data, reader), law)
    folder = out or data.parent / ORDER
    info = order.write_order(folder, law, interval_steps=steps, phase=phase, data_digest=order.index_digest(data))
    tell(f"{folder}: {law.steps:,} steps of {law.batch:,}, {len(info.intervals):,} intervals, digest {info.digest}")


def _tokens(data: Path, reader: Any) -> int:
    """Tokens of all samples: from the ledgers where there are some, else estimated from the size of the shards."""
    from ettin_data.storage import ledger

    folders = sorted({(data / info.basename).parent for info in reader.infos})
    if all((folder / ledger.SAMPLES).exists() for folder in folders):
        return sum(int(ledger.read_table(f, ledger.SAMPLES, ["tokens"])["tokens"].sum()) for f in folders)
    width = reader.shard(0).dtype.itemsize
    return int(sum(info.bytes for info in reader.infos) // width)


@app.command()
def append(
    phase_folder: Annotated[Path, typer.Argument(help="A finished phase, to which samples were added.")],
    after: Annotated[Path, typer.Option(help="The same phase as it was before, such as a copy with hard links.")],
) -> None:
    """Let the order of a phase go on from that of an earlier build of it: its steps stay, the new samples follow.

    A training run that reads the earlier order continues on the new one at its step. Where samples are gone, because a
    filter or a target has changed, that cannot be, and the command says which.
    """
    from ettin_data.build.append import append_order

    info = append_order(phase_folder, after)
    last = info.earlier[-1]
    shared = info.shared_with(last.digest) // info.law.batch
    said = f"{shared:,} steps as before, {info.law.steps - shared:,} of what was added"
    tell(f"{phase_folder / ORDER}: {said}, digest {info.digest}")


@app.command()
def export(
    phase_folder: Annotated[Path, typer.Argument(help="A phase, such as runs/demo/decay, with train/ and order/.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint_000001/… and so on.")],
    form: Annotated[
        str, typer.Option("--as", help="Rows as stored, or as an encoder or decoder sees them.")
    ] = "stored",
    max_seq_len: Annotated[int | None, typer.Option(help="Of the loader; default: that of the run.")] = None,
    data: Annotated[Path | None, typer.Option(help="Default: train/ of the phase.")] = None,
    order: Annotated[Path | None, typer.Option(help="Default: order/ of the phase.")] = None,
    first_step: int = 1,
    last_step: int | None = None,
    steps_per_file: int = 100,
    law: AnyLaw = None,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
) -> None:
    """Write the order in the published form: parquet files with the rows of each step."""
    from ettin_data.order import loader_edits
    from ettin_data.order.data import run_of
    from ettin_data.order.export import export_law, export_order
    from ettin_data.order.index import OrderIndex
    from ettin_data.order.laws import law_named
    from ettin_data.order.packed_order import law_of

    if order is None and not (phase_folder / ORDER).exists():
        open_phase(phase_folder)  # which says what the folder is
    run = run_of(phase_folder)
    loader = loader_named(str(phase_folder), tokenizer, frame) or loader_edits.Loader.of_run(run)
    if max_seq_len is not None:
        loader = replace(loader, max_seq_len=max_seq_len)
    chosen = loader_edits.Form(_form(form) or "stored", loader)
    if (law := law_of(law, run)) is not None:
        index = OrderIndex.open(order or phase_folder / ORDER)
        info = export_law(
            law_named(law, index.batch),
            data or phase_folder / TRAIN,
            out,
            phase=index.info.phase,
            form=chosen,
            interval_steps=index.info.interval_steps,
            steps_per_file=steps_per_file,
            first_step=first_step,
            last_step=last_step,
            progress=bar(),
        )
        return tell(f"{info.folder}: {info.steps:,} steps, {info.rows:,} rows under {law}")
    info = export_order(
        order or phase_folder / ORDER,
        data or phase_folder / TRAIN,
        out,
        form=chosen,
        steps_per_file=steps_per_file,
        first_step=first_step,
        last_step=last_step,
        options=parallel(executor, workers, ray_address),
        progress=bar(),
    )
    tell(f"{info.folder}: {info.steps:,} steps, {info.rows:,} rows; {info.made:,} files made, {info.reused:,} there")


@app.command("verify")
def verify_published(
    data: Data,
    published: Published,
    seed: int = 21,
    epoch: int = 0,
    batch: Annotated[
        int | None, typer.Option(help="Default: that of the index beside the data, or what most steps have.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="That the trainer had; default: those of the data.")] = None,
    phase: PhaseName = None,
    form: Form = None,
    max_seq_len: MaxLength = None,
    law: AnyLaw = None,
    sample: Annotated[str, typer.Option(help="Share of the steps to check, such as 1%.")] = "100%",
    seeds: Annotated[str | None, typer.Option(help="Candidates for another seed, as 1,2,42.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of each candidate that are tried; default: one.", min=1)] = 1,
    infer: Annotated[bool, typer.Option(help="Look for another law when this one does not fit.")] = True,
    cache: Annotated[Path | None, typer.Option(help="Folder for data behind a URL.")] = None,
    shards: Annotated[int | None, typer.Option(help="Read so many shards of the data, drawn by a key.", min=1)] = None,
    scratch: Annotated[Path | None, typer.Option(help="Room for permutations, seen by all workers.")] = None,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
    as_json: Json = False,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
) -> None:
    """Prove that published rows are what the law gives, step by step, or name what is wrong.

    Exit status: 0 all of it agrees, 1 it differs or follows another law, 2 cannot be compared, 3 agrees as far as
    it was checked (--sample, --shards) or could be (a partial download).
    """
    from ettin_data.order.data import run_of
    from ettin_data.order.laws import Packed
    from ettin_data.order.packed_order import law_of
    from ettin_data.order.proof import report
    from ettin_data.order.proof.look import MANY_PACKED
    from ettin_data.order.proof.outcome import Request
    from ettin_data.order.proof.packed_rows import verify_packed
    from ettin_data.order.proof.verify import verify_order as run_verify

    if (Path(data) / TRAIN / INDEX).is_file():
        data = str(Path(data) / TRAIN)  # a phase was named
    run = run_of(Path(data)) if Path(data).is_dir() else None
    law, said = law_of(law, None), law_of(None, run) if law is None else None
    request = Request(
        data=data,
        published=published,
        seed=seed,
        epoch=epoch,
        batch=batch,
        samples=samples,
        phase=phase,
        form=_form(form),
        max_seq_len=max_seq_len,
        loader=loader_named(data, tokenizer, frame),
        law=law,
        sample=_share(sample),
        seeds=_candidates(seeds, seed, epochs),
        infer=infer,
        cache=cache,
        shards=shards,
        scratch=scratch,
        options=parallel(executor, workers, ray_address),
    )
    try:
        if packs := law is not None and law.startswith(Packed.name):
            packed = verify_packed(request, bar())
        elif said is not None and shards is None:
            packed = verify_packed(replace(request, law=said), bar())
            packs = not infer or packed is None or packed.verdict != "differs"
        else:
            packed = None
        found = None if packs else run_verify(request, bar())
        if found is not None and infer and law is None and found.look is not None and found.look.packed > MANY_PACKED:
            tried = verify_packed(request, bar()) if found.data.here.all() and not found.fits else None
            packed = tried or packed
        if found is not None and found.fits:
            packed = None
    except EttinError as error:  # apart from the exit status of a difference
        found_none = error.exit_status == ExitStatus.NOT_FOUND
        fail(error, None if found_none else ExitStatus.NOT_COMPARED)
    if packed is not None:
        if as_json:
            tell_json(packed.to_json())
        else:
            tell(*packed.to_lines())
        raise typer.Exit(packed.exit_status)
    assert found is not None
    shown = found.classification.rows or found.classification.edited
    decode = words(found.data.loader.vocabulary, tokenizer, frame).decode if shown else None
    if as_json:
        tell_json(report.to_json(found, decode))
    else:
        tell(*report.to_lines(found, decode))
    raise typer.Exit(found.exit_status)


@app.command()
def explain(
    data: Data, published: Published, phase: PhaseName = None, seeds: str | None = None, cache: Path | None = None
) -> None:
    """Say which law a published order follows, from 1% of its steps."""
    verify_published(data, published, phase=phase, seeds=seeds, cache=cache, sample="1%", workers=1)


def _form(value: str | None) -> Literal["stored", "encoder", "decoder"] | None:
    if value is None or value in ("stored", "encoder", "decoder"):
        return value  # type: ignore[return-value]
    raise OrderError(f"--as {value!r} is not known", remedy="use stored, encoder or decoder")


def _candidates(seeds: str | None, seed: int, epochs: int) -> tuple[int, ...] | None:
    """What to try for seed + epoch, all the law knows of the two; None leaves it to the search."""
    if seeds is None and epochs == 1:
        return None
    named = _seeds(seeds) if seeds is not None else (seed,)
    return tuple(dict.fromkeys(each + epoch for epoch in range(epochs) for each in named))


def _seeds(value: str) -> tuple[int, ...]:
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and len(part) < 20 for part in parts):
        raise OrderError(f"--seeds {value!r} are no seeds", remedy="write whole numbers, as 1,2,42")
    return tuple(map(int, parts))


def _share(value: str) -> float:
    try:
        return float(value[:-1]) / 100 if value.endswith("%") else float(value)
    except ValueError:
        raise OrderError(f"--sample {value!r} is not a share", remedy="write it as 1% or 0.01") from None
