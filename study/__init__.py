"""What is to be run: factors, grid, identity, plan, typed configurations, paths, and the command line's front."""
