"""Records of a run: trajectories and logged metrics."""
