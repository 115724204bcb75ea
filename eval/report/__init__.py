"""A report of runs as one HTML file that needs no network, with every episode turn by turn."""
