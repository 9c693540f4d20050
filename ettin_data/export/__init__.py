"""A finished phase in another project's format: each format is a module of this folder with `EXPORT`."""
