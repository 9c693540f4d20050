"""What lies on disk and nothing else: split markers, ledgers, the tree of digests, the bytes of a shard."""
