"""Bundles of a paper's runs that others can verify, and evaluation cards."""
