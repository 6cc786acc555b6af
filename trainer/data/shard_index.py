"""Index of one WebDataset shard: where each sample's files lie, made once and kept in the cache."""
