"""The network side: one client an endpoint, its limits, retries and accounts."""
