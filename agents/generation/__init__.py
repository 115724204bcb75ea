"""Text generation: transformers, and vLLM in the process or as a server."""
