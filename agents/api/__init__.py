"""Models over the network: one client per endpoint, with limits, retries and accounting."""
