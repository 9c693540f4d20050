"""The small trainer, which proves that what was built is what a model sees. README.md says in what order to read it."""

from ettin_data.base.extras import need

need("torch", "the trainer")
