"""Joins a Ray cluster and describes films on it."""
