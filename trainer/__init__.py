"""One run or one evaluation: data, models, objectives, loop, protocols, tracking."""
