"""Laws of other loaders than the one that Ettin trained with: which samples each of their steps reads.

A law is a data class of parameters, and a pure function of them and of what a loader knows of the data (`Samples`).
`steps` gives the rows of each step under any of them. A law that is a `Reading` is an order of positions cut into
batches, so that whatever compares a publication with an order can compare it with that one as well.
"""

from __future__ import annotations

from dataclasses import MISSING, fields

from ettin_data.base.errors import OrderError, near
from ettin_data.order.laws.as_order import ReadOrder
from ettin_data.order.laws.packed import Packed
from ettin_data.order.laws.reading import Law, Reading, Rows, Samples, steps
from ettin_data.order.laws.sequential import Sequential
from ettin_data.order.laws.streaming import Streaming

LAWS: dict[str, type[Sequential | Streaming | Packed]] = {law.name: law for law in (Sequential, Streaming, Packed)}
"""Name -> parameters. The law of Ettin's own loader, `ettin-v1`, is `order.law.OrderLaw`."""


def law_named(text: str, batch: int, **usual: int) -> Law:
    """The law that a user names: `NAME` or `NAME:parameter=value,parameter=value`.

    Args:
        batch, usual: parameters where the text says none; those that the law does not have are passed over.

    Raises:
        OrderError: there is no such law or parameter, or its value is none.
    """
    name, _, rest = text.partition(":")
    if name not in LAWS:
        raise OrderError(f"the law {text!r} is not known", where="--law", remedy=near(name, LAWS))
    kinds = {field.name: str(field.type) for field in fields(LAWS[name])}
    given: dict[str, int | str | bool] = {"batch": batch, **{key: n for key, n in usual.items() if key in kinds}}
    for pair in rest.split(",") if rest else ():
        key, equals, value = pair.partition("=")
        if key not in kinds or not equals:
            raise OrderError(f"{pair!r} is no parameter of {name}", where="--law", remedy=near(key, kinds))
        try:
            given[key] = value if "str" in kinds[key] else _BOOLS[value] if kinds[key] == "bool" else int(value)
        except (KeyError, ValueError):
            raise OrderError(f"{key} of {name} cannot be {value!r}", why=f"it is {kinds[key]}", where="--law") from None
    missing = [field.name for field in fields(LAWS[name]) if field.default is MISSING and field.name not in given]
    if missing:
        raise OrderError(f"{name} needs {missing[0]}", where="--law", remedy=f"--law {name}:{missing[0]}=…")
    return LAWS[name](**given)  # type: ignore[arg-type]


_BOOLS = {"true": True, "false": False}

__all__ = [
    "LAWS",
    "Law",
    "Packed",
    "ReadOrder",
    "Reading",
    "Rows",
    "Samples",
    "Sequential",
    "Streaming",
    "law_named",
    "steps",
]
