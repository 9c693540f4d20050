"""Laws of other loaders than the one that Ettin trained with: which samples each of their steps reads.

A law is a data class of parameters, and a pure function of them and of what a loader knows of the data (`Samples`).
`steps` gives the rows of each step under any of them. A law that is a `Reading` is an order of positions cut into
batches, so that whatever compares a publication with an order can compare it with that one as well.
"""

from ettin_data.order.laws.packed import Packed
from ettin_data.order.laws.reading import Reading, Rows, Samples, steps
from ettin_data.order.laws.sequential import Sequential
from ettin_data.order.laws.streaming import Streaming

LAWS: dict[str, type[Sequential | Streaming | Packed]] = {law.name: law for law in (Sequential, Streaming, Packed)}
"""Name -> parameters. The law of Ettin's own loader, `ettin-v1`, is `order.law.OrderLaw`."""

__all__ = ["LAWS", "Packed", "Reading", "Rows", "Samples", "Sequential", "Streaming", "steps"]
