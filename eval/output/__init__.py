"""Print figures."""
