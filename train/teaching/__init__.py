"""Teachers' episodes for supervised fine-tuning, and their order."""
