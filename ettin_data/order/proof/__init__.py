"""The judgement of a foreign batch order: what was published against every law that could have made it."""
