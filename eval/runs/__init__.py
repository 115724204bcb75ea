"""A run's folder, its options, and playing into it."""
