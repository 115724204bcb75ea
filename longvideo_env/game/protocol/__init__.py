"""Protocols: how a reply's text is parsed into an action or a malformed turn."""
