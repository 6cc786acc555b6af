"""Statistics of ablations: two to five seeds, some tasks, many variants. Pure functions; scipy underneath."""
