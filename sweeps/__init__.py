"""Many tasks: claims, states, workers, submissions, and the commands that drive them."""
