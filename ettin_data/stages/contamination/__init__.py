"""Where evaluation texts stand in documents: reading them, an index of their words, and the search for it."""
