"""Start of the training commands: options, defaults, and checks before torch is imported."""
