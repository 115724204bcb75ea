"""Vision agents."""
