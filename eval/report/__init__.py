"""A report of runs: one HTML file that needs no network, with every episode turn by turn."""
