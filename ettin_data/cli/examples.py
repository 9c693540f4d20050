"""The examples that `--help` of a command ends with, and the order of the commands in that of `ettin-data`."""

from __future__ import annotations

import typer

WORK = (
    *("demo", "recipe", "sources", "tokenizer", "filters", "plan", "build", "status"),
    *("inspect", "report", "view", "trace", "dedup", "exposure", "verify", "repair", "diff"),
    *("order", "index", "export", "publish", "mirror", "train", "checkpoint", "mix", "chaos"),
)
"""The commands in the order of a person's work; one that is not here comes last."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("demo --out runs/demo", "demo --no-train"),
    "recipe show": ("recipe show decay --set math_dolmino=2x", "recipe show mine.yaml"),
    "recipe init": ("recipe init mine.yaml",),
    "plan": (
        "plan decay --tokens 10B --length 4096",
        "plan decay --set math_dolmino=2x --drop-source books --keep-total",
        "plan mine.yaml --add-source mine=/data/texts:1B",
        "plan mine.yaml --pilot 0.1% --workers 64 --price-per-core-hour 0.04",
    ),
    "plan diff": ("plan diff decay mine.yaml", "plan diff runs/ettin/decay mine.yaml"),
    "build": (
        "build mine.yaml --out runs/mine --workers 16",
        "build decay --out runs/ettin --executor ray --ray-address auto",
        "build decay --out runs/ettin --share 3/64",
    ),
    "status": ("status runs/mine --follow",),
    "inspect": ("inspect runs/mine/decay/train --number 3",),
    "report": ("report runs/mine --out report.html --pictures pictures",),
    "view": ("view runs/mine/decay --step 2 --out step.html",),
    "trace": ("trace runs/mine --phase decay --step 2", 'trace runs/mine --text "some words of a document"'),
    "exposure": ("exposure runs/mine", "exposure runs/mine --texts gsm8k.jsonl"),
    "verify": ("verify runs/mine", "verify runs/mine/decay --full --workers 8"),
    "repair": ("repair runs/mine",),
    "diff": ("diff runs/mine/decay runs/other/decay",),
    "export": (
        "export runs/mine/decay --to parquet --out decay-parquet",
        "export runs/mine/decay --to megatron --out decay-megatron --files 1",
    ),
    "publish": ("publish runs/mine hf://org/name --dry-run", "publish runs/mine s3://bucket/prefix"),
    "mirror push": ("mirror push runs/mine s3://bucket/prefix",),
    "mirror pull": ("mirror pull s3://bucket/prefix runs/mine",),
    "order make": ("order make runs/mine/decay/train --epoch 1 --batch 4608 --out order-1",),
    "order append": (
        "order append runs/mine/decay --after runs/before      # of a copy: cp -al runs/mine/decay runs/before",
    ),
    "order export": ("order export runs/mine/decay --out published",),
    "order verify": (
        "order verify --data runs/mine/decay/train --published published",
        "order verify --data hf://datasets/org/data/train --published order --cache shards --shards 53",
    ),
}
"""Command -> what may be written behind `ettin-data`."""


def show_examples(app: typer.Typer, group: str = "") -> None:
    """Give each command of an app, and of its groups, its examples."""
    for command in app.registered_commands:
        said = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        if lines := EXAMPLES.get(f"{group} {said}".strip()):
            command.epilog = _epilog(lines)
    for info in app.registered_groups:
        if lines := EXAMPLES.get(f"{group} {info.name}".strip()):
            info.epilog = _epilog(lines)
        if info.typer_instance is not None:
            show_examples(info.typer_instance, str(info.name))


def _epilog(lines: tuple[str, ...]) -> str:
    return "\b\nFor instance:\n" + "\n".join(f"  ettin-data {line}" for line in lines)


def at_work(name: str) -> int:
    """The place of a command in the work."""
    return WORK.index(name) if name in WORK else len(WORK)
