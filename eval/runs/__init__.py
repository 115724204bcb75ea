"""Runs: their options, their folders, and playing."""
