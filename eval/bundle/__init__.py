"""What a paper's numbers rest on: packed, verified by strangers, and summed up on one page."""
