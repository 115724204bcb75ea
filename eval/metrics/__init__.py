"""Numbers of finished episodes."""
