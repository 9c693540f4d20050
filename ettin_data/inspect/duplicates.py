"""What the search for copies has found in a finished phase: how much, of whom, in what clusters, and how truly.

`search` has the tables; here they are counted, and the texts read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import document_key, draws
from ettin_data.base.errors import ExitStatus, OrderError, ShardError
from ettin_data.dedup.tables import TWIN_ROW, TWIN_SPLIT
from ettin_data.inspect.evaluation import pieces_of
from ettin_data.inspect.search import Numbers, Search, document_number, rows_in_pool, rows_of, split_of, splits_of
from ettin_data.storage.mds import MdsReader
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary


def matrix(search: Search, within: bool | None = None) -> list[dict[str, Any]]:
    """One row for each source of copies and source of twins: documents and tokens, by reason and in all.

    `share` is of all documents of the source in the pool; `tokens` are None where nobody counted those of copies.
    """
    shown = search.only(within)
    copies, twins, reasons = search.pairs
    copies, twins, reasons = copies[shown], twins[shown], reasons[shown]
    documents: dict[str, int] = defaultdict(int)
    for split in search.splits:
        documents[split.source] += len(split.table.codes) if split.table is not None else 0
    tokens = tokens_of(search, copies) if search.tokens_known else None
    ours, theirs = search.sources(copies), search.sources(twins)
    rows = []
    for source, other in sorted(set(zip(ours.tolist(), theirs.tolist(), strict=True))):
        cell = (ours == source) & (theirs == other)
        by_reason = {}
        for reason in sorted(set(reasons[cell].tolist())):
            mask = cell & (reasons == reason)
            by_reason[reason] = {"documents": int(mask.sum()), "tokens": _sum(tokens, mask)}
        count = int(cell.sum())
        rows.append({
            "source": source, "copies_of": other, "documents": count, "tokens": _sum(tokens, cell),
            "share": count / documents[source], "reasons": by_reason,
        })  # fmt: skip
    return rows


def _sum(tokens: Numbers | None, mask: NDArray[np.bool_]) -> int | None:
    return None if tokens is None else int(tokens[mask].sum())


def tokens_of(search: Search, numbers: Numbers) -> Numbers:
    """Tokens of each document, as its pool counted them."""
    found = np.zeros(len(numbers), np.int64)
    for number in np.unique(splits_of(numbers)).tolist():
        mine, split = splits_of(numbers) == number, search.splits[number]
        found[mine] = split.tokens[rows_of(numbers[mine])]
    return found


@dataclass(frozen=True)
class Clusters:
    """Survivors and what was left out for them, the most copies first.

    Attributes:
        survivors: numbers of the documents, shape (clusters,).
        copies: of each, itself not counted.
    """

    survivors: Numbers
    copies: Numbers

    def histogram(self) -> dict[str, int]:
        """Copies of a survivor, in powers of two -> clusters."""
        power = np.frexp(self.copies.astype(np.float64))[1] - 1  # 1, 2-3, 4-7, …
        counts = zip(*np.unique(power, return_counts=True), strict=True)
        return {f"{2**p}-{2 ** (p + 1) - 1}" if p else "1": int(n) for p, n in counts}


def clusters(search: Search, within: bool | None = None) -> Clusters:
    """The clusters of a search. A twin that is left out itself stands for the one that it is left out for."""
    copies, twins, _ = search.pairs
    survivors = twins.copy()
    for _ in range(64):  # the way to the survivor halves each time
        at = np.searchsorted(copies, survivors)
        at[at == len(copies)] = 0
        gone = copies[at] == survivors if len(copies) else np.zeros(0, bool)
        if not gone.any():
            break
        survivors[gone] = survivors[at[gone]]
    else:
        raise ShardError("documents are left out for each other: the tables of copies are damaged")
    found, counts = np.unique(survivors[search.only(within)], return_counts=True)
    order = np.lexsort((found, -counts))
    return Clusters(found[order], counts[order].astype(np.int64))


def texts(search: Search, numbers: Numbers, vocabulary: Vocabulary) -> dict[int, AnyTokens]:
    """The text tokens of documents, by number, as far as they are in a pool.

    Copies that went before packing are in none. A tail that was too short to be a sample is missing.
    """
    found: dict[int, AnyTokens] = {}
    for number in np.unique(splits_of(numbers)).tolist():
        split, base = search.splits[number], document_number(number, 0)
        if split.folder is None or split.pool is None:
            continue
        rows = np.unique(rows_of(numbers[splits_of(numbers) == number]))
        in_pool = rows_in_pool(split.folder, split.pool, rows)
        read = _read_tokens(split.pool, np.array(sorted(in_pool), np.int64), vocabulary)
        found.update({base + in_pool[row]: tokens for row, tokens in read.items()})
    return found


def _read_tokens(pool: Path, rows: Numbers, vocabulary: Vocabulary) -> dict[int, AnyTokens]:
    sample, document, start, length = pieces_of(pool)
    behind = np.cumsum(length) - length
    offset = behind - behind[np.searchsorted(sample, sample)]  # of each piece in the text of its sample
    pieces: dict[int, list[tuple[int, AnyTokens]]] = defaultdict(list)
    reader, framing = MdsReader(pool), (vocabulary.open, vocabulary.close)
    for at in np.flatnonzero(np.isin(document, rows)).tolist():
        stored = reader.tokens(int(sample[at]))
        text = stored[~np.isin(stored, framing)]  # text never becomes one of these
        pieces[int(document[at])].append((int(start[at]), text[offset[at] : offset[at] + length[at]]))
    return {row: np.concatenate([text for _, text in sorted(some, key=lambda p: p[0])]) for row, some in pieces.items()}


def documents_with(search: Search, document: str) -> list[int]:
    """Numbers of the documents of this phase that have an id. Raises `OrderError` where none has."""
    key = np.uint64(document_key(document))
    found = [
        document_number(number, row)
        for number, split in enumerate(search.splits)
        if split.table is not None
        for row in np.flatnonzero(split.documents["key"] == key).tolist()
    ]
    if not found:
        raise OrderError(f"no document with the id {document!r} was looked at", status=ExitStatus.NOT_FOUND)
    return found


def explained(search: Search, number: int) -> dict[str, Any]:
    """Place and reason of a document, bands and estimated likeness, and its `twin`; None where it is no copy."""
    split, row = split_of(search, number)
    assert split.table is not None
    code = int(split.table.codes[row])
    said: dict[str, Any] = {**split.place(row), "reason": None, "twin": None}
    if code:
        columns = split.table.columns
        twin = document_number(int(columns[TWIN_SPLIT][row]), int(columns[TWIN_ROW][row]))
        other, its_row = split_of(search, twin)
        said |= {"reason": split.table.reasons[code - 1], "twin": {**other.place(its_row), "number": twin}}
        said |= {"bands": int(columns["bands"][row]), "likeness": float(columns["likeness"][row])}
    return said


def drawn(search: Search, within: bool | None, most: int) -> Mapping[str, tuple[Numbers, Numbers]]:
    """Reason -> copies and twins, of at most so many pairs of the search that a key draws."""
    shown = search.only(within)
    copies, twins, reasons = search.pairs
    copies, twins, reasons = copies[shown], twins[shown], reasons[shown]
    order = np.argsort(draws(copies.astype(np.uint64), search.seed, "precision of copies"), kind="stable")[:most]
    order.sort()
    return {
        reason: (copies[order][reasons[order] == reason], twins[order][reasons[order] == reason])
        for reason in sorted(set(reasons[order].tolist()))
    }
