"""The text filters, one family a module; `ettin_data.stages.filters.registry` builds them from a recipe."""
