"""Downloads datasets from the Hugging Face hub and unpacks their archives."""
