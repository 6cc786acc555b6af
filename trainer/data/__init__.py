"""Image-text pairs to train on and labelled sets to evaluate on: drawn, packaged or in shards."""
