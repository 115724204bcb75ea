"""What the OpenEnv server is made of: messages, sessions, MCP and its bounds."""
