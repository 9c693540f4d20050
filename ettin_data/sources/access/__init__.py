"""How bytes come from wherever they are: transport, retries, limits, cache, decompression."""
