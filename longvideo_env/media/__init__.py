"""Films, subtitles and frames."""
