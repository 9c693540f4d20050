"""What a finished phase has taken of each source, for a recipe that goes on from there (`--after`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ettin_data.base.errors import RecipeError
from ettin_data.base.shapes import first_problem
from ettin_data.recipe.schema import Recipe, SourceChoice, TakenBefore
from ettin_data.storage import records
from ettin_data.storage.phase import open_phase


def going_on(recipe: Recipe, folder: str | Path) -> tuple[Recipe, list[str]]:
    """The recipe with `after` in each source whose amount is another one than in the phase; and their names.

    Args: folder: of the phase, or of a run that has one of the recipe's name.

    Raises:
        RecipeError: the draws are other ones than in the phase, or its record is none.
        BuildError: the phase is not finished.
    """
    run = records.read_run(open_phase(Path(folder), recipe.phase))
    for name in ("seed", "validation"):
        if (present := getattr(recipe, name)) != (then := run.recipe.get(name)):
            raise RecipeError(
                f"--after {folder}: its {name} is {then}, this recipe's {present}",
                why="other documents would be taken and held out",
                remedy=f"--set {name}={then}",
            )
    sources, names = dict(recipe.sources), []
    for key, choice in recipe.sources.items():
        if key not in run.recipe["sources"] or key not in run.sources:
            continue
        try:
            then = SourceChoice.model_validate(run.recipe["sources"][key])
        except ValidationError as error:
            raise RecipeError(
                f"--after {folder}: what its run.json says of the source {key!r} is no source",
                where=f"sources.{key}",
                why=first_problem(error),
                remedy="`ettin-data verify` shows what else of it is damaged",
            ) from None
        earlier = list(then.after)
        if (then.tokens, then.passes) != (choice.tokens, choice.passes):
            earlier.append(TakenBefore(tokens=then.tokens, passes=then.passes, splits=run.sources[key].splits))
        if earlier:
            sources[key] = choice.model_copy(update={"after": earlier})
            names.append(key)
    return recipe.model_copy(update={"sources": sources}), names
