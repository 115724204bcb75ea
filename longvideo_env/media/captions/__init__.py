"""What `read_subtitles` is made of: bytes to text, text to cues for each format, cues to lines."""
