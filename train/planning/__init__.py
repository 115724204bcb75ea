"""What a training will take, before any GPU time is spent."""
