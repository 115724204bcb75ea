"""Joining a cluster of Ray, and describing films on it."""
