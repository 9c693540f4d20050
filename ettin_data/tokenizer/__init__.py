"""Text to token ids and back: files, backends with their proof, the encoder of a split."""
