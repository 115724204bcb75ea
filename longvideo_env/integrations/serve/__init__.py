"""Parts of the OpenEnv server: messages, sessions, MCP and limits."""
