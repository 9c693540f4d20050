"""`ettin-data recipe`: what a recipe says when all is resolved, a file to start from, and every key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ettin_data.cli.changing import changing
from ettin_data.cli.shared import Json, tell, tell_json

if TYPE_CHECKING:
    from ettin_data.recipe import Loaded

app = typer.Typer(
    help="Show what a recipe comes to, start one of your own, list every key.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("show")
@changing
def show_recipe(loaded: Loaded, as_json: Json = False) -> None:
    """Show a recipe with all that it extends and all changes, and who said each value. It can be read as a recipe."""
    from ettin_data.base.redact import redact_all
    from ettin_data.recipe.show import resolved_text

    if as_json:
        tell_json({"recipe": redact_all(loaded.recipe.model_dump(mode="json")), "said": redact_all(dict(loaded.said))})
    else:
        tell(*resolved_text(loaded).splitlines())


@app.command("init")
def init_recipe(
    path: Annotated[Path | None, typer.Argument(help="File to write, such as mine.yaml; none prints it.")] = None,
    extends: Annotated[str, typer.Option(help="The recipe that it starts from.")] = "ettin/decay",
    phase: Annotated[str | None, typer.Option(help="Name of its phase; default: that of the other recipe.")] = None,
) -> None:
    """Write a commented recipe to start from."""
    from ettin_data.base import files
    from ettin_data.base.errors import RecipeError
    from ettin_data.recipe.show import starting_text

    text = starting_text(extends, phase)
    if path is None:
        tell(*text.splitlines())
        return
    if path.exists():
        raise RecipeError(f"{path} is there already", remedy="name another file, or remove it")
    files.write(path, text)
    tell(f"{path}: now `ettin-data plan {path}`")


@app.command("keys")
def list_keys(
    word: Annotated[str, typer.Argument(help="Only keys in whose path this is, such as sources.")] = "",
    as_json: Json = False,
) -> None:
    """List every key of a recipe with its type, its default and a sentence."""
    from ettin_data.base.errors import RecipeError, near
    from ettin_data.recipe.keys import page, recipe_keys

    found = [key for key in recipe_keys() if word in key.path]
    if not found:
        raise RecipeError(f"no key has {word!r} in it", remedy=near(word, [key.path for key in recipe_keys()]))
    if as_json:
        tell_json([key._asdict() for key in found])
    else:
        tell(*page(word).splitlines())
