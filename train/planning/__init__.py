"""Estimates of what a training run needs, before it uses any GPU time."""
