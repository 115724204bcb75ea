"""Joining a cluster of Ray."""
