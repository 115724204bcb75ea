"""Evaluation of policies: running them, keeping what they did, and summing it up."""
