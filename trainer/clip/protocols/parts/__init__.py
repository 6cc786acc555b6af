"""What several protocols share: features, prompts, similarities, metrics, classifiers' training.

It may import `trainer.clip`'s models, objectives and data, and no protocol.
"""
