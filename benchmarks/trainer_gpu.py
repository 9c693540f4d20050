"""On a GPU: tokens a second of the trainer's models, and the share of the time that waits for data.

    python -m benchmarks.trainer_gpu [--data runs/demo/pretrain] [--sizes 17m 150m] [--steps 30] [--json FILE]

The real loop on real files: a phase of 1,024-token samples is written to a temporary folder (or `--data` names a built
one), read by worker processes through the order index, verified step by step as always, and trained on in bf16 with
compiled layers. The first steps, which compile, are not counted. "share waiting" is the time that the loop stood still
for the next step's data; the claim is less than 2%. "verify" is what the checks of each step take, which is on top.

Before that, flash attention with borders and window (`varlen_attn`) is compared with the exact path.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import report
from benchmarks.trainer_reading import write_samples
from ettin_data.load.samples import OrderSampler
from ettin_data.order.index import write_order
from ettin_data.order.law import OrderLaw
from ettin_data.trainer.attention import Borders, attend
from ettin_data.trainer.data import make_loader
from ettin_data.trainer.loop import Run, TrainConfig, timed
from ettin_data.trainer.phases import PHASES, PhaseFolder
from ettin_data.trainer.world import World

CLAIMED_WAIT = 0.02
BATCH = 256
UNCOUNTED = 8


def check_attention(device: torch.device) -> float:
    """Largest difference between the kernel in bf16 and the exact path, in parts of the result's deviation."""
    borders = Borders.of(torch.tensor([0, 1024, 1047, 3000], dtype=torch.int32), device)
    q, k, v = (torch.randn(3000, 4, 64, device=device) for _ in range(3))
    worst = 0.0
    for window, causal in ((None, False), (None, True), ((64, 64), False), ((63, 0), True)):
        exact = attend(q, k, v, borders, window, causal)
        fast = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), borders, window, causal).float()
        worst = max(worst, float((fast - exact).pow(2).mean().sqrt() / exact.std()))
    return worst


def write_phase(folder: Path, steps: int) -> Path:
    """Samples and their order index; no ledger, so content is checked by the shards' hashes."""
    write_samples(folder / "train", steps * BATCH)
    write_order(folder / "order", OrderLaw(21, 0, steps * BATCH, BATCH), interval_steps=10_000)
    return folder


def measure(folder: Path, out: Path, size: str, kind: str, steps: int, workers: int, batch_tokens: int) -> dict:
    config = TrainConfig(
        (PhaseFolder(PHASES["pretrain"], folder, steps),),
        out,
        kind="decoder" if kind == "decoder" else "encoder",
        size=size,
        device="cuda",
        workers=workers,
        batch_tokens=batch_tokens,
        survey_samples=1000,
    )
    run = Run(config, World.start("cuda"))
    run.prepare()
    (phase,) = run.prepared
    run.build()
    loader = make_loader(phase.dataset, OrderSampler(phase.order, stop=steps), phase.collator, workers)
    check, checked = phase.verifier.check, []

    def timed_check(part) -> None:
        began = time.perf_counter()
        check(part)
        checked.append(time.perf_counter() - began)

    phase.verifier.check = timed_check  # type: ignore[method-assign]
    tokens, waits, whole, losses = [], [], [], []
    began = time.perf_counter()
    for part, waited in timed(loader):
        row = run.step(phase, part)
        torch.cuda.synchronize()
        now = time.perf_counter()
        tokens.append(row["tokens"])
        waits.append(waited)
        whole.append(now - began)
        losses.append(row["loss"])
        began = now
    counted = slice(UNCOUNTED, None)
    return {
        "model": f"{size} {kind}",
        "tokens/s": statistics.median(t / s for t, s in zip(tokens[counted], whole[counted], strict=True)),
        "share waiting": sum(waits[counted]) / sum(whole[counted]),
        "share verify": sum(checked[counted]) / sum(whole[counted]),
        "GB": torch.cuda.max_memory_allocated() / 1e9,
        "loss": f"{np.mean(losses[:3]):.2f} -> {np.mean(losses[-3:]):.2f}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["17m", "150m"])
    parser.add_argument("--kinds", nargs="+", default=["encoder"], choices=["encoder", "decoder"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batch-tokens", type=int, default=1 << 16)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing measured")
        return 0
    difference = check_attention(torch.device("cuda"))
    print(json.dumps({"device": torch.cuda.get_device_name(), "attention, rms difference": round(difference, 5)}))
    with tempfile.TemporaryDirectory(prefix="ettin-gpu-") as temporary:
        folder = arguments.data or write_phase(Path(temporary) / "pretrain", arguments.steps)
        rows = []
        for size in arguments.sizes:
            for kind in arguments.kinds:
                torch.cuda.reset_peak_memory_stats()
                out = Path(temporary) / f"{size}-{kind}"
                rows.append(
                    measure(folder, out, size, kind, arguments.steps, arguments.workers, arguments.batch_tokens)
                )
    waits = {row["model"]: row["share waiting"] for row in rows}
    report("Training on one GPU", rows, arguments.json, waits)
    return int(difference > 0.02 or max(waits.values()) > CLAIMED_WAIT)


if __name__ == "__main__":
    raise SystemExit(main())
