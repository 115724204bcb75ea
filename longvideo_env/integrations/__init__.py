"""Integrations with other systems, one file each. Only the commands import them."""
