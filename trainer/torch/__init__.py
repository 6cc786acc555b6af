"""What any torch trainer needs: several processes that train one run, and the first step that diverged.

It may import `study`.
"""
