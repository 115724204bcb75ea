"""Work on a cluster of Ray: joining one, and describing films on it."""
