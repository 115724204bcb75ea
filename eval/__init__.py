"""Evaluation of policies: play them, save their episodes, and compute figures."""
