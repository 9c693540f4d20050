"""`ettin-data report`: a run as one page, and its pictures for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ettin_data.base import files
from ettin_data.cli.shared import FrameText, PhaseName, TokenizerName, tell, words


def report(
    run: Annotated[Path, typer.Argument(help="A run folder such as runs/demo, or one phase of it.")],
    out: Annotated[Path, typer.Option(help="HTML file.")] = Path("report.html"),
    pictures: Annotated[Path | None, typer.Option(help="Folder that gets each picture as SVG and PNG.")] = None,
    phase: PhaseName = None,
    examples: Annotated[int, typer.Option(min=0, max=100, help="Decoded samples of each source.")] = 2,
    characters: Annotated[int, typer.Option(min=0, help="Of each text; 0 for all.")] = 600,
    pairs: Annotated[
        int, typer.Option(min=0, help="Of copies whose texts are compared, and documents, each with all; 0 for none.")
    ] = 10_000,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
) -> None:
    """Write a run as one self-contained HTML page: mixture, lengths, losses, packing, order, training, examples."""
    from ettin_data.base.extras import need
    from ettin_data.inspect.lookup import open_phases
    from ettin_data.inspect.report.facts import facts_of
    from ettin_data.inspect.report.page import report_page, write_pictures
    from ettin_data.storage.phase import TRAINER

    need("matplotlib", "drawing a report")
    phases = open_phases(run, phase)
    root = phases[0].folder.parent
    found = [
        facts_of(
            one,
            words(one.loader.vocabulary, tokenizer, frame),
            root / TRAINER,
            examples=examples,
            characters=characters,
            pairs=pairs,
        )
        for one in phases
    ]
    name = run.resolve().name if len(phases) > 1 else f"{root.resolve().name}/{phases[0].place.name}"
    text = report_page(name, found)
    files.write(out, text)
    tell(f"{out}: {', '.join(one.name for one in phases)}, {len(text):,} characters")
    if pictures is not None:
        made = write_pictures(found, pictures)
        tell(f"{pictures}: {len(made):,} pictures")


COMMANDS = (report,)
