"""The options that change a recipe, defined once for all commands that take one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

_ADD = (
    "name=PLACE:tokens, or :all for all of it once. A file, a folder, a glob, a pool (runs/demo/decay/pools/books), "
    "org/name of the hub, hf://, datasets://, s3://, gs://, https://."
)
_OPTIONS: dict[str, tuple[Any, Any]] = {  # of `recipe.Changes`, in its order: type and option, default
    "sets": (
        Annotated[list[str] | None, typer.Option("--set", help="key.path=value, or of a source name=6B or name=2x.")],
        None,
    ),
    "add_source": (Annotated[list[str] | None, typer.Option("--add-source", help=_ADD)], None),
    "drop_source": (
        Annotated[list[str] | None, typer.Option("--drop-source", help="Name of a source to leave out.")],
        None,
    ),
    "scale": (Annotated[float, typer.Option(help="Factor on every token target.")], 1.0),
    "tokens": (
        Annotated[str | None, typer.Option("--tokens", help="Scale all of it to a budget, such as 10B, exactly.")],
        None,
    ),
    "keep_total": (
        Annotated[bool, typer.Option("--keep-total", help="What is not changed here is scaled to the old sum.")],
        False,
    ),
    "length": (Annotated[int | None, typer.Option("--length", help="Most tokens of a sample, such as 4096.")], None),
    "after": (
        Annotated[
            str | None,
            typer.Option("--after", help="A finished phase: what it took is taken again, and the rest beside it."),
        ],
        None,
    ),
}
_RECIPE = Annotated[str, typer.Argument(help="pretrain, extension, decay, or a YAML file of yours")]


def changing(command: Callable[..., None]) -> Callable[..., None]:
    """A command on a recipe: its first parameter, a `Loaded`, becomes a recipe's name and all that changes it."""
    _, *own = inspect.signature(command).parameters.values()
    said = get_type_hints(command, localns={"Loaded": Any}, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(name, kind, default=default, annotation=said) for name, (said, default) in _OPTIONS.items()
    ]
    first = inspect.Parameter("recipe", kind, annotation=_RECIPE)

    @wraps(command)
    def run(*, recipe: str, **given: Any) -> None:
        from ettin_data.recipe import Changes, load_changed

        sets, added, dropped, *others = (given.pop(name) for name in _OPTIONS)
        changes: tuple[Any, ...] = (sets or (), added or (), dropped or (), *others)
        command(load_changed(recipe, Changes(*changes)), **given)

    parameters = [first, *options, *(each.replace(kind=kind, annotation=said[each.name]) for each in own)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
