"""Hub data sets without usable files (a script's output, an odd format): read through `datasets`, streaming.

Root: `datasets://org/name@revision?config=NAME&split=train&shards=N` (revision, config and split optional). Its "files"
are the shards that `datasets` makes of it, named `<config>/<split>/<i>-of-<n>`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from ettin_data.base.errors import SourceError
from ettin_data.base.extras import need
from ettin_data.base.redact import redact
from ettin_data.sources.access.retry import Patience, of_network
from ettin_data.sources.base import Damaged, ReadOptions, Record, Reject, Source, SourceFile, TransportOptions
from ettin_data.sources.formats.format import Format, Items, counted
from ettin_data.sources.formats.record_text import text_problem, value_at
from ettin_data.sources.ids import Ids, scrub, usable

SCHEME = "datasets://"


def _open(source: Source, options: TransportOptions, listed: bool = False) -> tuple[Any, str]:
    """The streaming data set of a source and the folder name of its shards."""
    load_dataset = need("datasets", f"a source read through {SCHEME}").load_dataset
    parts = urlsplit(source.root)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    name, _, revision = (parts.netloc + parts.path).rstrip("/").partition("@")
    config, split = query.get("config"), query.get("split", "train")
    patience = Patience(options, source.root, listed)
    while True:
        try:
            data = load_dataset(name, config, split=split, revision=revision or None, streaming=True)
            return data, f"{config or 'default'}/{split}"
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise SourceError(
                f"data set {name!r} cannot be opened", where=redact(source.root), why=redact(error)
            ) from None
        except Exception as error:
            patience.failed(error)


def list_shards(source: Source, options: TransportOptions) -> list[SourceFile]:
    """One `SourceFile` for each shard that `datasets` streams separately; sizes are not known."""
    data, folder = _open(source, options)
    return [SourceFile(f"{folder}/{i:05d}-of-{data.num_shards:05d}", -1) for i in range(data.num_shards)]


def read_rows(source: Source, file: SourceFile, options: ReadOptions) -> Items:
    """Records and rejects of one shard.

    Raises `Damaged` when it cannot be read to its end, `SourceError` when that is a network's fault.
    """
    data, _ = _open(source, options.transport, listed=True)
    number, _, count = file.path.rpartition("/")[2].partition("-of-")
    if data.num_shards != int(count):
        raise SourceError(f"{data.num_shards} shards are there, {int(count)} were listed", where=redact(source.root))
    ids = Ids(f"{source.key}/{file.path}")
    rows = enumerate(data.shard(num_shards=int(count), index=int(number)))
    position = -1
    while True:
        try:
            position, row = next(rows, (position, None))
        except Exception as error:  # whatever the builder of this data set raises
            said = redact(f"{type(error).__name__}: {error}")[:300]
            if of_network(error):
                remedy = "start again: what is finished is kept"
                raise SourceError(
                    f"{file.path} cannot be read on", where=redact(source.root), why=said, remedy=remedy
                ) from None
            raise Damaged("unreadable", said) from None
        if row is None:
            return
        try:
            text = value_at(row, source.text_key)
        except KeyError:
            yield Reject(position, "text_missing", f"columns: {', '.join(row)}"[:200])
            continue
        if problem := text_problem(text):
            yield Reject(position, *problem)
            continue
        text = scrub(text)
        metadata: dict[str, Any] = {"url": row["url"]} if type(row.get("url")) is str else {}
        try:
            raw = value_at(row, source.id_key)
        except KeyError:
            raw = None
        record_id = ids.one(raw, position, metadata) if usable(raw) else ids.replace(raw, position, metadata)
        yield Record(text, record_id, position, metadata)


FORMAT = Format(
    "rows",
    version=1,
    read=lambda given: counted(read_rows(given.source, given.file, given.options)),
    signed=False,
    scheme=SCHEME,
    list_files=list_shards,
)
