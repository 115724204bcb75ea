"""Baselines that ask a model once, without turns, and the calibration of judges."""
