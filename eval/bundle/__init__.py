"""What a paper's numbers rest on: packed, verified by strangers, and told on one page."""
