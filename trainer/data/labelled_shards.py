"""Evaluation sets in WebDataset shards: labels and captions from the JSON, masks beside the image."""
