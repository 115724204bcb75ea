"""Playing a run on a cluster of Ray: one driver that writes, many workers that play."""
