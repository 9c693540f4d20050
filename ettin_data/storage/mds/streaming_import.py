"""The library whose format this is, imported in one place."""

from __future__ import annotations

import sys
import types

from ettin_data.base.extras import need


def import_streaming() -> types.ModuleType:
    """Import `streaming` without its image datasets.

    `streaming/__init__.py` imports `streaming.vision` and with it torchvision, for which no build matches CPU-only
    torch, and which costs seconds. Nothing here reads images, so an empty module stands in for it. This is the only
    place that imports `streaming`.
    """
    sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))
    return need("streaming", "reading through MosaicML's StreamingDataset")
