"""ettin-data: builds the Ettin pre-training mixture from its public sources, and proves what it built."""

__version__ = "0.1.0"
