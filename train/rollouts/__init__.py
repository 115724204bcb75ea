"""Rollouts: the episodes that TRL's trainer learns from."""
