"""Many tasks: claims, states, workers, submission."""
