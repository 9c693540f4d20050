"""Arrow files and streams to records: what `datasets` writes with `save_to_disk`, and Feather's second version.

The file is mapped, not read into buffers. A record batch is checked as a whole before a value of it is looked at, since
offsets that lead out of their buffer would otherwise end the process and not the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ettin_data.sources.access.transport import as_path
from ettin_data.sources.base import Damaged
from ettin_data.sources.formats.columns import batch_records, column_for
from ettin_data.sources.formats.format import Format, Input, Items
from ettin_data.sources.ids import Ids

if TYPE_CHECKING:  # pyarrow takes a quarter of a second to import, and most commands read no columns
    import pyarrow as pa

_FILE = b"ARROW1"
_STREAM = b"\xff\xff\xff\xff"
_BATCH_ROWS = 1024


def read_arrow(given: Input) -> Items:
    """Records and rejects of a file, row by row; other columns than text, id and url are ignored.

    Raises `Damaged` for a file without the text column or one that cannot be read on.
    """
    import pyarrow as pa

    with as_path(given.source, given.file, given.blocks, plain=not given.compressed) as path:
        refused = (pa.ArrowException, OSError, ValueError, KeyError)
        position = 0
        try:
            with pa.memory_map(path) as stored:
                ids = Ids(given.prefix)
                for batch in _batches(stored, given):
                    for start in range(0, batch.num_rows, _BATCH_ROWS):
                        found = batch_records(batch.slice(start, _BATCH_ROWS), position, given, ids)
                        yield from found
                        position += len(found)
        except refused as error:
            damage = Damaged("damaged_arrow", f"after {position:,} rows: {str(error)[:300]}")
            damage.seen = position
            raise damage from None
        except Damaged as damage:
            damage.seen = position
            raise


def _batches(stored: pa.MemoryMappedFile, given: Input) -> Iterator[pa.RecordBatch]:
    """The batches with the columns that are asked for, each sound. Raises what pyarrow raises, and `Damaged`."""
    import pyarrow as pa

    is_file = stored.read(len(_FILE)) == _FILE
    stored.seek(0)
    reader = pa.ipc.open_file(stored) if is_file else pa.ipc.open_stream(stored)
    keys, names = (given.source.text_key, given.source.id_key, "url"), reader.schema.names
    if column_for(keys[0], names) is None:
        raise Damaged("no_text_column", f"{keys[0]!r} is not among {', '.join(names)[:200]}")
    wanted = [name for name in dict.fromkeys(column_for(key, names) for key in keys) if name is not None]
    numbered = (reader.get_batch(number) for number in range(reader.num_record_batches)) if is_file else iter(reader)
    for batch in numbered:
        batch = batch.select(wanted)
        batch.validate(full=False)  # of strings the characters are looked at where they are read
        for column in batch.columns:
            _sound(column)
        yield batch


def _sound(column: pa.Array) -> None:
    """Raise what pyarrow raises for offsets that are not in order or lead out of their buffer; not for bad UTF-8."""
    import pyarrow as pa

    text = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    (column.view(text[column.type]) if column.type in text else column).validate(full=True)


FORMAT = Format(
    "arrow",
    version=1,
    read=read_arrow,
    suffixes=("arrow", "feather"),
    recognise=lambda head: head.startswith((_FILE, _STREAM)),
    tokens_per_byte={"": 0.22, "gz": 0.55, "zst": 0.5},
)
"""Rates: plain text with eight bytes a row. A stream says nowhere how many rows it has, so no file is cut."""
