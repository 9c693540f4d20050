"""ettin-data: builds the Ettin pre-training mixture from its public sources, and proves what it built."""

from ettin_data.base.version import VERSION as __version__

__all__ = ["__version__"]
