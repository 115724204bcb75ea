"""What plays episodes: the Gymnasium environment and the rollout engine."""
