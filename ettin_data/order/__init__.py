"""The batch order, proved: from a law to published rows and back.

    law           N, seed, epoch, batch -> the permutation; pure arithmetic
    shuffle       the shuffle of a large permutation
    info          what order.json says (the index itself is written and read by `index.py`)
    export        index + data -> rows in the published form
    published     names, types and rows of the published form, local or behind a URL
    data          samples by position, whole or in part, local or behind a URL; their hashes
    proof/        the judgement of a foreign order; its README has the steps

A verification never holds more than some steps in memory, never writes beside the data, and treats a difference as a
result, not as an error.
"""
