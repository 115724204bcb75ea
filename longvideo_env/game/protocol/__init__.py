"""How a reply's text becomes an action, or a malformed turn."""
