"""Which shard files a pattern names: a folder, a glob or a brace range, relative ones under $ABLATE_DATA."""
