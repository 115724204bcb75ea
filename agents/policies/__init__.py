"""Policies: the master agents that play the game."""
