"""Models that write replies: transformers, and vLLM in the process or as a server."""
