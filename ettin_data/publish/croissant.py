"""Croissant metadata (mlcommons.org/croissant/1.0) of a publication: its files, and the decoded samples as records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ettin_data.base.units import count
from ettin_data.base.visible import visible
from ettin_data.publish.contents import Hashes
from ettin_data.publish.samples import COLUMNS
from ettin_data.publish.target import HUB, Target
from ettin_data.storage.phase import DIGESTS, SHARDS, TRAIN, VALIDATION
from ettin_data.storage.records import RunRecord

_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def croissant(
    target: Target, runs: Mapping[str, RunRecord], viewers: Mapping[str, Hashes], licences: Sequence[str]
) -> str:
    """The metadata as JSON-LD.

    Args:
        viewers: path of each parquet file of decoded samples -> its hashes. licences: of all sources.
    """
    tokens = sum(run.totals.get("tokens", 0) for run in runs.values())
    on_hub = target.protocol == HUB
    url = f"https://huggingface.co/datasets/{target.place}" if on_hub else str(target)
    repository: dict[str, Any] = {
        "@type": "cr:FileObject", "@id": "repository", "name": "repository", "description": "Where all files are.",
        "contentUrl": url, "encodingFormat": "git+https" if on_hub else "application/octet-stream",
        "sha256": "https://github.com/mlcommons/croissant/issues/80",
    }  # fmt: skip
    distribution = [repository]
    for name, run in runs.items():
        for part in (TRAIN, VALIDATION):
            distribution.append({
                "@type": "cr:FileSet", "@id": f"{name}-{part}", "name": f"{name}-{part}",
                "description": f"MDS shards of {part}, columns {', '.join(run.layout['columns'])}.",
                "containedIn": {"@id": "repository"}, "encodingFormat": "application/octet-stream",
                "includes": f"{name}/{part}/**/{SHARDS}",
            })  # fmt: skip
    records = []
    for path, hashes in viewers.items():
        name = Path(path).stem
        distribution.append({
            "@type": "cr:FileObject", "@id": f"{name}-samples.parquet", "name": f"{name}-samples.parquet",
            "description": "Decoded samples.", "contentUrl": path, "containedIn": {"@id": "repository"},
            "encodingFormat": "application/x-parquet", "sha256": hashes.sha256, "contentSize": f"{hashes.size} B",
        })  # fmt: skip
        records.append(_record_set(name))
    body = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": target.name,
        "description": visible(
            f"{count(tokens)} tokens of pre-training text, tokenized and packed by ettin-data: "
            + "; ".join(f"{name}, root {run.root}" for name, run in runs.items()),
            lines=False,
        ),
        "license": [visible(licence, lines=False) for licence in licences],
        "url": url,
        # of the data: another build with these roots is the same version
        "version": f"1.0.0+{'.'.join(run.root[:12] for run in runs.values())}",
        "citeAs": f"{target.name}, built by ettin-data; " + ", ".join(f"{n}/{DIGESTS}" for n in runs),
        "distribution": distribution,
        "recordSet": records,
    }
    return json.dumps(body, indent=1, ensure_ascii=True) + "\n"


def _record_set(name: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": f"{name}-samples",
        "name": f"{name}-samples",
        "description": "Decoded samples of each source, drawn by a key.",
        "field": [
            {
                "@type": "cr:Field", "@id": f"{name}-samples/{column}", "name": column, "description": said,
                "dataType": kind,
                "source": {"fileObject": {"@id": f"{name}-samples.parquet"}, "extract": {"column": column}},
            }
            for column, (kind, said) in COLUMNS.items()
        ],
    }  # fmt: skip
