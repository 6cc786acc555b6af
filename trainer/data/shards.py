"""Image-text pairs in WebDataset shards, as img2dataset writes them, with random access."""
