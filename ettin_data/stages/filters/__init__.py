"""The text filters, one family a module; `ettin_data.stages.filter` builds them from a recipe."""
