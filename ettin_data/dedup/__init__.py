"""Copies of documents: found across everything, the same survivors every time (ARCHITECTURE 5.11)."""
