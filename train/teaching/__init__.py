"""What teachers play, and in which order it is learned."""
