"""A model's configuration that is small enough for tests; imports no torch."""

from __future__ import annotations

from ablative.trainer.clip.spec.config import ModelConfig

VOCAB = 50
MODEL = ModelConfig(
    name="test",
    image_size=32,
    patch_size=8,
    width=32,
    depth=2,
    heads=4,
    text_width=24,
    text_depth=2,
    text_heads=2,
    context_length=12,
    vocab_size=VOCAB,
    embed_dim=16,
    decoder_width=20,
    decoder_depth=1,
    decoder_heads=2,
)
"""16 patches, of which 4 stay visible; 12 tokens at most."""
