"""Datasets of the hub, and the archives that come with them."""
