"""Master policies."""
