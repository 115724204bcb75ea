"""Figures computed from finished episodes."""
