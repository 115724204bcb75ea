"""What asks a model once, without turns: files of the published baseline, and lenient reading."""
