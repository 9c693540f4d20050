"""`ettin-data report`: a run as one page and as pictures."""
