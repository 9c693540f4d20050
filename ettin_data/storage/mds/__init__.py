"""MosaicML MDS: the only package that knows the bytes of a shard and the form of an `index.json`.

A shard is `uint32 n`, `n + 1` uint32 offsets, a JSON config, then the samples; a sample is one uint32 size for each
column of variable size, then the columns' bytes in the order of their names (`streaming/base/format/mds`). A column
`ndarray:<dtype>` is one byte `(ndim << 2) | k` (k = 0..3 for dimensions in uint8/16/32/64), the dimensions, the values.
"""

from ettin_data.storage.mds.index import (
    HASH,
    SIZE_LIMIT,
    ShardInfo,
    bytes_digest,
    check_inside,
    index_text,
    merged_index,
    path_inside,
    read_index,
    write_index,
)
from ettin_data.storage.mds.reader import MdsReader, Shard
from ettin_data.storage.mds.streaming_import import import_streaming
from ettin_data.storage.mds.writer import Layout, OtherLayout, ShardWriter
from ettin_data.storage.phase import INDEX

__all__ = [
    "HASH",
    "INDEX",
    "SIZE_LIMIT",
    "Layout",
    "MdsReader",
    "OtherLayout",
    "Shard",
    "ShardInfo",
    "ShardWriter",
    "bytes_digest",
    "check_inside",
    "import_streaming",
    "index_text",
    "merged_index",
    "path_inside",
    "read_index",
    "write_index",
]
