"""From a recipe to a finished phase: prepare, plan, pool, mix, assemble, and what a build says of itself."""
