"""Token ids with a fixed meaning, on which the tokenizer and the models agree."""

PAD, BOS, EOS, UNK = 0, 1, 2, 3
"""Padding, beginning and end of a caption, and bytes that the vocabulary lacks."""
