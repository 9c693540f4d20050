"""`ettin-data mirror push | pull`: a run with everything that belongs to it, to another place and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ettin_data.cli.shared import bar, tell

app = typer.Typer(help="A whole run at another place, and back, by the digests of its files.", no_args_is_help=True)

Place = Annotated[str, typer.Argument(help="hf://ORG/NAME, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.")]


@app.command("push")
def push(
    run: Annotated[Path, typer.Argument(help="A run folder such as runs/demo, or one phase of it.")], target: Place
) -> None:
    """Send a run with its pools, rejects and attributes: `publish --whole`."""
    from ettin_data.cli.publish import publish

    publish(run, target, whole=True)


@app.command("pull")
def pull(target: Place, out: Annotated[Path, typer.Argument(help="Folder that gets the phases.")]) -> None:
    """Take a run that was published into a folder, and verify it where it was published as a whole.

    What is here already is not taken again, so the same command continues. Exits with 1 if anything is wrong.
    """
    from ettin_data.base.units import size
    from ettin_data.cli.durable import show_report
    from ettin_data.publish.pull import pull_run
    from ettin_data.publish.target import parse_target
    from ettin_data.verify import VerifyOptions, verify_phase

    worst = 0
    for pulled in pull_run(parse_target(target), out, progress=bar("pull")):
        tell(f"{pulled.folder}: {pulled.taken:,} files, {size(pulled.bytes)}; {pulled.here:,} were here already")
        if pulled.whole:
            report = verify_phase(pulled.folder, VerifyOptions(False, None, bar(pulled.folder.name)))
            show_report(report)
            worst = max(worst, report.status)
    raise typer.Exit(worst)
