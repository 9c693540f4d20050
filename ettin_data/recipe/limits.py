"""How much of its input a build may lose before it stops."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ettin_data.base.options import Options


class BadInput(Options):
    """What happens to files and records that cannot be used."""

    on_bad: Literal["reject", "stop"] = "reject"
    """Of a bad record, "reject" writes it into `rejects/` and goes on; "stop" ends the build."""
    on_bad_file: Literal["fail", "skip"] = "fail"
    """Of a damaged file, "skip" uses what can be read; "fail" builds the other splits, then says what to mend."""
    max_rejects: float = Field(0.01, ge=0, le=1)
    """Share of a source's records, with what skipped files probably held; beyond it the build fails."""
    max_repaired: float = Field(0.001, ge=0, le=1)
    """Share of a source's records that lost characters, since those were not UTF-8; beyond it the build fails."""
