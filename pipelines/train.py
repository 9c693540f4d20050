"""Train on a built run, through its three phases, and verify every step against order index and stored content.

    python pipelines/train.py runs/demo                                  # nano, encoder and decoder, on a CPU
    python pipelines/train.py runs/ettin --size 17m --objective encoder --steps all
    torchrun --nproc-per-node 8 pipelines/train.py runs/ettin --size 150m --objective decoder --steps all --workers 4
    python pipelines/train.py runs/ettin --size 17m --objective decoder --start-from <run>/trainer/encoder/ext1000.pt

A killed run continues with the same command. Checkpoints, the log of steps and the result go to
`<run>/trainer/<objective>`, the plot and the verdict to `<run>/report`. The exit status is 0 when everything that was
checked is right.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ettin_data.base.errors import EttinError
from ettin_data.cli.shared import bar
from ettin_data.trainer.model import SIZES
from ettin_data.trainer.small import train_run

CHANGES = {
    # fields of ettin_data.trainer.loop.TrainConfig, for example
    # "seed": 22, "tuning": Tuning(peak=1e-3, decay=1e-5), "reader": "streaming", "layout": "padded",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder with pretrain, extension, decay, or some of them")
    parser.add_argument("--size", default="nano", choices=list(SIZES))
    parser.add_argument("--objective", default="both", choices=["encoder", "decoder", "both"])
    parser.add_argument("--steps", default="auto", help="of each phase: a number, all, or auto (few for nano on a CPU)")
    parser.add_argument("--out", type=Path, help="where models go (default <run>/trainer)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--workers", type=int, default=0, help="processes that read ahead")
    parser.add_argument("--start-from", type=Path, help="a checkpoint whose weights to begin with, of either objective")
    arguments = parser.parse_args()
    steps = arguments.steps if arguments.steps in ("auto", "all") else int(arguments.steps)
    try:
        verdict = train_run(
            arguments.run,
            size=arguments.size,
            objective=arguments.objective,
            steps=steps,
            out=arguments.out,
            progress=bar(),
            device=arguments.device,
            workers=arguments.workers,
            start_from=arguments.start_from,
            **CHANGES,
        )
    except EttinError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(verdict.lines()))
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
