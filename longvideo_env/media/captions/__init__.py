"""Parts of `read_subtitles`: bytes to text, text to cues by format, cues to lines."""
