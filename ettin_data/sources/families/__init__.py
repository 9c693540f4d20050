"""One module for each upstream family: where its files are, and how they look."""
