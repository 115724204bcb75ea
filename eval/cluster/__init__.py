"""Play a run on a Ray cluster: one driver writes, many workers play."""
