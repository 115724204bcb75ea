"""Readers of other benchmarks, each from a local folder: see docs/data.md for their layouts."""
