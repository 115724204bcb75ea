"""Grounding agents."""
