"""The batch order, proved: from a law to published rows and back.

    law           N, seed, epoch, batch -> the permutation; pure arithmetic
    shuffle       the shuffle of a large permutation
    info          what order.json says (the index itself is written and read by `index.py`)
    export        index + data -> rows in the published form
    published     names, types and rows of the published form, local or behind a URL
    data          samples by position, whole or in part, local or behind a URL; their hashes
    catalog       published steps: where they are, how many rows they have
    explanation   how a publication follows from a law -> what each part of it should hold
    compare       published rows against samples, as multisets, one part after the other, in workers
    probe         where some published rows are in the data: the evidence for
    infer         the search for a law that explains a publication; `shard_order` for another order of shards
    fitting       in which form the rows are, and where they were cut
    look          what the rows look like, when none of them is in the data
    chance        how likely it is that rows without any order would have agreed as well
    classify      what is wrong with the rows that do not agree: `resemble` and `edits` for changed rows,
                  `segments` for steps that moved
    verify        all of these in their order
    report        what was found, for people and as JSON

A verification never holds more than some steps in memory, never writes beside the data, and treats a difference as a
result, not as an error.
"""
