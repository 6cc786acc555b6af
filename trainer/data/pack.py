"""Folders, CSV, TSV, JSONL and COCO captions made into WebDataset shards."""
