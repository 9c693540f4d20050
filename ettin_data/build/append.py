"""Lets the order of a phase go on from that of an earlier build of it, and says so in its records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ettin_data.base import files
from ettin_data.base.errors import BuildError, ExitStatus
from ettin_data.build.card import write_card
from ettin_data.build.shares import alone
from ettin_data.order.append import appended_law
from ettin_data.order.index import OrderIndex, OrderInfo, index_digest, write_order
from ettin_data.storage import digests, records
from ettin_data.storage.phase import ORDER, ORDER_FILE, open_phase


def append_order(folder: Path, before: Path) -> OrderInfo:
    """Write the order of a finished phase again, as the one that goes on from an earlier build's (`order.appended`).

    The root, `digests.json`, `run.json` and the card follow. A build of the same phase keeps such an order as long as
    its samples are the same.

    Args:
        folder: of the phase, to which samples were added.
        before: of the same phase as it was, or of a run that has it; a copy with hard links will do. Only read.

    Raises:
        BuildError: a phase is not finished.
        OrderError: the order cannot go on (`order.append`).
    """
    phase = open_phase(folder)
    then = open_phase(before, phase.name)
    for each in (phase, then):
        if not each.run_json.exists():
            raise BuildError(
                "the phase is not finished",
                where=each.folder,
                remedy="run the command that built it to its end",
                status=ExitStatus.INCOMPLETE,
            )
    with alone(phase):
        run, contents = records.read_run(phase), digests.read_digests(phase.digests_json)
        law = appended_law(phase, then)
        steps = OrderIndex.open(then.order).info.interval_steps
        phase.run_json.unlink()  # written last: a build finishes what is interrupted here
        info = write_order(
            phase.order, law, interval_steps=steps, phase=run.phase, data_digest=index_digest(phase.train)
        )
        named = f"{ORDER}/{ORDER_FILE}"
        entries = {**contents.files, named: files.digest(phase.order_json)}
        contents = replace(contents, order=info.digest, files=entries)
        changed = {"order": info.record(), "root": contents.root, "roots": contents.roots()}
        made = run.model_copy(update={**changed, "digests": digests.write_digests(phase, contents)})
        records.write_record(phase, made.model_copy(update={"card": write_card(phase.card, made)}))
    return info
