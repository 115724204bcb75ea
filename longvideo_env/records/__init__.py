"""What is kept of a run: trajectories and logged metrics."""
