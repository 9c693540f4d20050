"""Queries on a finished phase: what was in a step, where a text is, what two builds differ in."""
