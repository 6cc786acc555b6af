"""Towers, decoder and pooling, and their arithmetic in closed form (`flops` and `sizes` import no torch).

It may import `study`, `trainer.clip.spec` and `trainer.clip.token_ids`.
"""
