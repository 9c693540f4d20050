"""Verifying a run: quick (every byte has its hash) and full (every sample is decoded and every law checked again).

    report = verify(Path("runs/demo/pretrain"), VerifyOptions(full=True))
    for finding in report.findings: print(finding)        # shard, sample, reason

What a phase is trusted by, from the outside in:

    run.json       digest of itself; digests of digests.json, of plan.json and of the card; the root
    digests.json   digest of itself; hashes of both index.json, order.json and the frozen listings; every split's marker
    split.json     digest of itself; hash of every file of its split, and of its reject log
    order.json     hash of every file of the order index

so that a changed byte shows without a single sample being decoded. In `README.md`, the card, what the build wrote has
to stand in one piece: people add to it. What `run.json` says is derived again from the markers, and what the markers
say they were made from is held against the recipe and the plan. A full verification does not trust the hashes: it
decodes, and derives everything again that can be derived.

Rooms: `model` (findings and reports), `quick` and `full` (one split), `rows` and `ledgers` (samples against the
ledger, the ledger against itself), `mixed` (what was cut against the pool), `order`, `between` (what holds between
splits), `record` (what the run says of itself), `origin` (what splits were made from), `phase` (all of it, in
parallel).
"""

from ettin_data.verify.model import DAMAGED, INCOMPLETE, SOUND, Finding, Report
from ettin_data.verify.phase import Seen, VerifyOptions, look, verify_phase

__all__ = [
    "DAMAGED", "INCOMPLETE", "SOUND", "Finding", "Report", "Seen", "VerifyOptions", "look", "verify_phase",
]  # fmt: skip
