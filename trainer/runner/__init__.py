"""What a task of any trainer leaves behind: journal, record, environment, usage. None of it needs torch.

It may import `study`.
"""
