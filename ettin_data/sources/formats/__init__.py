"""One module for each file format: how it is recognised, cut and read."""
